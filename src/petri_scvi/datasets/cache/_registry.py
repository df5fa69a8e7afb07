"""Name, URL, SHA-256, size, license of every file that can be fetched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Entry:
    """One file. Silent changes upstream must raise an error, so an entry without ``sha256`` states why it has none."""

    file_name: str  # path inside the cache folder
    url: str | None  # None: not downloadable, used only where it is already in the cache folder
    sha256: str | None
    n_bytes: int
    license: str
    why_no_sha256: str = ""  # then the first download is trusted, and later ones are compared with it
    is_size_exact: bool = True  # whether n_bytes is the exact length or an estimate
    max_bytes: int | None = None  # largest possible length if n_bytes is an estimate; None: twice n_bytes
    md5: str | None = None  # as the publisher states it
    reported_sha256: str | None = None  # of another user's copy; a difference only warns
    token_variable: str | None = None  # environment variable with the token that the server asks for
    terms: str = ""  # page on which a user accepts the terms and makes a token

    def __post_init__(self) -> None:
        if self.sha256 is None and not self.why_no_sha256:
            raise ValueError(f"{self.file_name} has no sha256; state the reason in why_no_sha256")

    @property
    def limit(self) -> int:
        """Largest possible length of the file in bytes."""
        return self.n_bytes if self.is_size_exact else self.max_bytes or 2 * self.n_bytes


def files_of_folder(folder: str, url: str, hashes: Mapping[str, tuple[str, int]], license: str) -> dict[str, Entry]:
    """Entries of files that are published side by side, from the SHA-256 and the length of each name."""
    return {
        name: Entry(f"{folder}/{name}", url + name, sha256, n_bytes, license)
        for name, (sha256, n_bytes) in hashes.items()
    }


PAPALEXI = Entry(
    file_name="lowmoi_example_data.rda",
    url="https://raw.githubusercontent.com/Katsevich-Lab/sceptredata/"
    "ec722d5df90dfd34ace6cc9a5745ab6a5c2a6731/data/lowmoi_example_data.rda",
    sha256="e3f8ad09bb4b1d0deeeec2850a2d96f8f5062fef31a9ab1cc080e60560421b6a",
    n_bytes=1_358_267,
    license="MIT",
)

STRINGDB = Entry(
    file_name="StringDB.txt",
    url="https://raw.githubusercontent.com/recursionpharma/EFAAR_benchmarking/"
    "2df17070e43d3ede7ecd0d14301c04828420b6ab/efaar_benchmarking/benchmark_annotations/StringDB.txt",
    sha256="7955c846a551530c07b1eb508404cf15ef0b77ea39ad2368ed40c5c099dedb8c",
    n_bytes=1_412_650,
    license="CC-BY-4.0",
)

EXAMPLE_SBS_ARCHIVE = Entry(
    file_name="ExampleSBSImages.tar.xz",
    url=None,
    sha256="3e4703852768899efeab77d68285287ff81ac88608e3ba5f47fc366fafed77be",
    n_bytes=32_034_048,
    license="BSD-3-Clause",
)
"""The folder of ``EXAMPLE_SBS_FILES`` as one archive, for machines without a network."""

EXAMPLE_SBS_METADATA = "1049_Metadata.csv"

_EXAMPLE_SBS_URL = (
    "https://raw.githubusercontent.com/CellProfiler/CellProfiler/"
    "5b9c361fcc1116d3d47496d7ce429ba1dddbce16/tests/core/data/ExampleSBSImages/"
)

_EXAMPLE_SBS_HASHES = {
    # name: (SHA-256, bytes)
    "1049_Metadata.csv": ("f7abebc8de6d9ae01c34b4b98ba25bc8802a269bf7cb6c24c3d6471477d27fad", 1213),
    "Channel1-01-A-01.tif": ("a168bccb6772eab8b10d22ea3cd5548ec05fdfa6b27c532eeea6e1c819fbbe7d", 443868),
    "Channel1-02-A-02.tif": ("54b78021a8f22d2219000bb2ce7f6a4d5e0817293bb1ecdb4418afac1272f749", 444476),
    "Channel1-03-A-03.tif": ("e8cd135d7c06c2a957e7e763ed6db48f48183998fd49812bf5170b491cde363a", 444484),
    "Channel1-04-A-04.tif": ("3c37dc37eb019c5a4df75741942408a2ecb4305bcd05a3a765c27d592f7bd426", 444840),
    "Channel1-05-A-05.tif": ("2f1efff6e0087ad8e03f31f0bb04bfc33b11ffc7c3885c35e25a0cd10f9ec664", 444512),
    "Channel1-06-A-06.tif": ("f6b7cfaac757b50586e77aea014461682ce73c64000087d97d67a8c329f5ae73", 442932),
    "Channel1-07-A-07.tif": ("de3db71211bfad1f83052f287c593b421c6bdef293bf3def7657b03c77169122", 443332),
    "Channel1-08-A-08.tif": ("8a5e9be3e9039f6858ae21de41923e587117e037211e26c0df29043db079d3c7", 444428),
    "Channel1-09-A-09.tif": ("2466ac1f32c35f0444f296a989c7764b571a0e235fe2208b1065d227cc3a5082", 444140),
    "Channel1-10-A-10.tif": ("a3a97e50473f053ec43dacc18b3e15a9dac36d079139f541fbfb8c0ea747a21d", 443612),
    "Channel1-11-A-11.tif": ("166fcdcfc75415f98c3953d1516cbb7f1126a6f0342574e48ce3348add1cd349", 443964),
    "Channel1-12-A-12.tif": ("c1a9713b2e6b694c5642b0083aa9b86121923f348cc2bb595c908789bbf20bb9", 443672),
    "Channel1-13-B-01.tif": ("3b98159919a76ca1138c14987a5b983a7dd48b0b963201823154401de8481946", 443860),
    "Channel1-14-B-02.tif": ("d437bd3c59aa5b758621d00fce6b58f573bd69545f7ccc5753abdaf8da393383", 444896),
    "Channel1-15-B-03.tif": ("7a5283ade4390f3028a9cf5b8db52a0d7a73c506d236bd79c9a1ca9288864854", 445272),
    "Channel1-16-B-04.tif": ("98b2455b1f1d5534dbc722578736d33ac20cf00d04aa2aa050fe752b84299875", 445004),
    "Channel1-17-B-05.tif": ("5759b0cfcba06d13ff241ab18f9164d3d6af7f7e6383145fdd31ac9bfa91350e", 444440),
    "Channel1-18-B-06.tif": ("562a91f9177bc026deef273ba1629fdafe83086db569a5d931b169ef5f6773eb", 443840),
    "Channel1-19-B-07.tif": ("913ebf8f04e0d2796b2fa229529c3094e23fb83eb880e7488e1a90c6bdd8990b", 444340),
    "Channel1-20-B-08.tif": ("7ee97938471d8e54e5f67c7b21d44bd16b0cca9b804fbcb457ce4becc1bab37f", 444152),
    "Channel1-21-B-09.tif": ("1851a071fa22993fc896fa419548e23104388538e3bae420df1771df77afa169", 444124),
    "Channel1-22-B-10.tif": ("2794777c498a11a2637dfa74e94fc523d4bcd917ba7f997ce5205a76c05d93bb", 443120),
    "Channel1-23-B-11.tif": ("f1395c105d7769f5cedb1af46cedbc69f56b69e377b30882b82925c73ae4e26f", 444504),
    "Channel1-24-B-12.tif": ("915038f539497bf0a308fdb3de2b8144618cf24fc6b012a8eb7284251f5b4ddb", 443664),
    "Channel1-25-C-01.tif": ("6d58f1b3f317c07f0f65e869a6bb43de5ef5eb45685fdaaa1fbf43b889a05b32", 443984),
    "Channel1-26-C-02.tif": ("74e0051738856e61683d84fb32f57296c8ec98df839e3c9468cab71cafd1d5ae", 444244),
    "Channel1-27-C-03.tif": ("2821748835bd938d5cfa87b96fe0077b3b60622c603bb97be17ad58e77b60af3", 444596),
    "Channel1-28-C-04.tif": ("e33e26076461d87aed7ac422740d5c78ed03a8ec183c3f99a48387d957e9a9e2", 444456),
    "Channel1-29-C-05.tif": ("933763f8cc986420a705edb94046cf261e604818b4fcf40939c375213f407ad3", 442864),
    "Channel1-30-C-06.tif": ("7025f7d881948bbb529e5e7c05c0e7b62747591a04aa2e4ebc18bf502db2e93c", 443184),
    "Channel1-31-C-07.tif": ("761c0c8fb6cdf2ccb711ae80ba5785e0fd1b352c94bee1f893655b390e854b79", 444096),
    "Channel1-32-C-08.tif": ("b5aa8dcb426cabe975d6d6359435dcde18d4119c6760e593846ff43f0f746bb6", 444348),
    "Channel1-33-C-09.tif": ("6bee6e24808d6e4f2ba83f96a45894c98628df5f10384e1a1f2187ac1d66861b", 442228),
    "Channel1-34-C-10.tif": ("f9f83e53d2dafde841eda2946d5c86c79a349175f4abf3c95556a9119f58cb63", 444592),
    "Channel1-35-C-11.tif": ("9aa74294ade08fe7dc85df6ab52bc1a109a7d8ec3e54a7bebfdd09453be857d0", 442684),
    "Channel1-36-C-12.tif": ("c20af6a7cc193973daa3c343269b5402509d9dc5a5f9b21b20eb7ca68ff4b3c8", 444884),
    "Channel1-37-D-01.tif": ("df1913836cffbd22422f16e965a087e95ebd82ad5ae3edaedc93edf7fb0d667d", 444508),
    "Channel1-38-D-02.tif": ("087cd031d03b768df652a146bf1d63de8ab76645ebb396d763610a24be7138e3", 444292),
    "Channel1-39-D-03.tif": ("1a2f2c550608fc3bf9e72b931a6cdd102d136bdb211c38d689a22dbe29226db7", 443616),
    "Channel1-40-D-04.tif": ("d0164e24a24c2f83fea2c43e34d3d9704b1a1cabf06fa87ac641cf3171178583", 444504),
    "Channel1-41-D-05.tif": ("81a7d3fb6f940bcab6794ef38e7a70b893ac0540bb45e158c862e8886ba48519", 444580),
    "Channel1-42-D-06.tif": ("7755dc64926152893391bf883c9942f98f07889d8a9432a519d89e47e58a457c", 443560),
    "Channel1-43-D-07.tif": ("92f7d0d75ba438c613f92c5a5c256f8c01bdc118f1a92526b6ac492df446e6ec", 444292),
    "Channel1-44-D-08.tif": ("83189badf6b1ac54b2d9a6795c2fa21e2c8b3aab14ab39f98d3fe07d6696f027", 444312),
    "Channel1-45-D-09.tif": ("ce1c8e922bcaf9391d6d30227c06fa5e847d682f92dc652d2e962731a0d0a747", 443680),
    "Channel1-46-D-10.tif": ("2e09b90556d7e82a58daff8fae4c0d64bc04ad6fbde37500f0f4792c26f6c820", 443380),
    "Channel1-47-D-11.tif": ("69f10c5c2b6d649b4b02bb4367dc11b71e72ca43b88d568fa46595af005ee51f", 443624),
    "Channel1-48-D-12.tif": ("37af58accb88350425e499c2c1c4a9cba0a911afc3ab8d8f01e5f8b4c84bf832", 444276),
    "Channel1-49-E-01.tif": ("f2cff711a4a1100a58966f2777a11f186e30eceae1298f4ce03bf8c7c5778d5c", 443008),
    "Channel1-50-E-02.tif": ("a7807fcc00f2a04030a0dcb8b57fe9e8d15a8c72fb76102f1853a94c2a5503a7", 444352),
    "Channel1-51-E-03.tif": ("9e77462fd60ceeb66e127491c85a401bef8a59fef9653c6664efd841de41d47a", 444416),
    "Channel1-52-E-04.tif": ("ef48fd464e5b813809f94b371e6323cf06ade88dbc9afe040e3ce4eded72cdb7", 444692),
    "Channel1-53-E-05.tif": ("0901a90661ffbc52cdb90b26be25f02688f3ac7cd7d1af5677ce738325e22162", 443948),
    "Channel1-54-E-06.tif": ("93535d253a2ba8e6be777529860046d89c3ea3bd40ca26423e9287d4f030a8b9", 443648),
    "Channel1-55-E-07.tif": ("db2b68972cab0d23f855e1df57d35893afce9ac1193cc6a9274a2f4a6710f8d4", 443300),
    "Channel1-56-E-08.tif": ("39e30e66a6046f031c1a424c026c45c049a73bad1d0f0adfe7f970dd66c6f40d", 444136),
    "Channel1-57-E-09.tif": ("b243dffb17459b0a007f1675e58636e88db706ec72f6f707aa781158e7925bad", 443124),
    "Channel1-58-E-10.tif": ("85107e5f21653e5d5f345283513d30e3f9d173ec9315c01d4a28cce8e78e4ac8", 443380),
    "Channel1-59-E-11.tif": ("722e09cd586aaeb2a7de1e2c62e7921c90e430c1c623fbf88b6aa48f2c080a81", 443500),
    "Channel1-60-E-12.tif": ("16572520a815a29f597afc12ac96cdbaad5a77be90cf50be5be14daab9a9dab3", 443440),
    "Channel1-61-F-01.tif": ("35891b10fec1e55ad548ab7c4c011d20b3f5a51953a21278a062529549d7ac34", 444660),
    "Channel1-62-F-02.tif": ("f06ae65ca7cfce4ffcdc2c86c23f82e8cbbf02b063c96eee2b604361f9f14b48", 444784),
    "Channel1-63-F-03.tif": ("aed0aed6edd6d373266d9b9c87c24ddef334f0f0760cd6c00febba19d6bbf9be", 443084),
    "Channel1-64-F-04.tif": ("32fdf0ef158a156f92653e5db9e4250e1726e99a78e2b8d6a429906dca6c4d7d", 443936),
    "Channel1-65-F-05.tif": ("fe810c3ecfe357e964122fc9191d449f54b374ccf0098a754361746a50312d7f", 444012),
    "Channel1-66-F-06.tif": ("8bb20373a9547f9ba5216e6291fb092055cefd5a063511d16d98781c1172727a", 443072),
    "Channel1-67-F-07.tif": ("d82a57d321ea96460db09f8464d039a39ec7f2ead99587cf6353ba6aa24c401c", 443616),
    "Channel1-68-F-08.tif": ("f15191511d458760a1bb784020b13f0f1c050c322e8c1b26b3832b9b49ea14ed", 444092),
    "Channel1-69-F-09.tif": ("eedd66f6b1073ca3fe2edb51366a83e6423a119bf986487b8d4d7b6c0ebc747e", 444516),
    "Channel1-70-F-10.tif": ("5a1f69204db67b8128c719b0c625cd5b8b48f98c29be8619b5db99501bc4328a", 443088),
    "Channel1-71-F-11.tif": ("30f2166742f28ef465ad58b5bfe8937efa08b1ec06b219b536de5cd1ead97319", 444676),
    "Channel1-72-F-12.tif": ("fc86f7981e53e7901448b024b48e4541ba1c9eb30474567b985d54a2c0648aec", 444144),
    "Channel1-73-G-01.tif": ("2f17477172d488be97bf2034cfa3738ee444566bbd69e4e9d90505a8a2f8d99a", 444724),
    "Channel1-74-G-02.tif": ("c34c579974f608da9ef7b3b5521288a2fc0c19b6a515aeb88a8afd3cfb105f45", 444056),
    "Channel1-75-G-03.tif": ("fa5bda7a6f6f415be612116311f94f4b17bd3a58a2adee8c0dd2d0d8b2f0db26", 444356),
    "Channel1-76-G-04.tif": ("47c52b22f628141e96e85ef3b98e4919696b4ef35e060c68b4f1e6a9b7a88723", 444008),
    "Channel1-77-G-05.tif": ("e6bd9210ee99b8d3dd3e62095f7f62d30f2168a54ddbd39682c4483695ec85e0", 443368),
    "Channel1-78-G-06.tif": ("22e68dc6c87542b63712345c29469bc44a7455867b4875bb17393adace87618f", 443812),
    "Channel1-79-G-07.tif": ("22e7d7d6f993944a5d4d1a4c1a383db861dc1875b860a7d7c3353afab3d99b7c", 443992),
    "Channel1-80-G-08.tif": ("8b89b00bdc802a495aa312e74519bab20686d4e7980cf8078bfc58e968950220", 443916),
    "Channel1-81-G-09.tif": ("52875c14d171b103fd2bb8f9fb0255004c974b46a7bbdc77c08ed6ffd73bd9f1", 444236),
    "Channel1-82-G-10.tif": ("7d6709f577a8cbed48d9ad6416242b7111df06029acc4c33dfa8d14b15fa3eed", 443148),
    "Channel1-83-G-11.tif": ("f03788731631328308aecab8c7f61cd091a6be0f11d9c16eae646564d3756bf6", 443748),
    "Channel1-84-G-12.tif": ("6ba008a449ae52dd578531aafaa5a53dffff889f5e864a74693e01ce3373d747", 443892),
    "Channel1-85-H-01.tif": ("572cfa10db714c70d337b1eef1592751c7aa2181fb66b0b075ddadf12b44fde7", 445416),
    "Channel1-86-H-02.tif": ("3742d5ee89f7f414c0cffc545070277effffb478a80f98f82a94cc82e1b5d168", 444480),
    "Channel1-87-H-03.tif": ("14e9e69e44c8f498edae27497691c8387300b7d255e6d13c3f50b0c8c20ce0b6", 444220),
    "Channel1-88-H-04.tif": ("59a34866c4b1a9588f134013262152f6518468ca060e205c2450490939fe9c9c", 443604),
    "Channel1-89-H-05.tif": ("c6302cbb38dc0c437b17214bb6362a07cca751be5e79ee805f490eefef622afd", 444940),
    "Channel1-90-H-06.tif": ("adcc5887798fa304f65ff23a95f16bba32f5194b311066a2a430a0d746a07794", 443156),
    "Channel1-91-H-07.tif": ("15b49afb1cb309adf999cd91ad1ed413dd1cbd0fce472278a693433e85d1445b", 443584),
    "Channel1-92-H-08.tif": ("f80b8681fb4fd3bdb71437a5e49ce9b6747fde6c36703be617b320c840275797", 443620),
    "Channel1-93-H-09.tif": ("413a6c3ef58b750b3b8ebb0df3dcc50207e133e45655fc2d70742bd611ae8689", 443912),
    "Channel1-94-H-10.tif": ("40f1a88580ad09176209ade3a61c901713aecd1b60ccae99fe9e799e7b72179d", 443424),
    "Channel1-95-H-11.tif": ("1ee221d0ef8be628884202dbebbe4a76b12f6ca7fa8645304acafdb5eb5d847c", 445168),
    "Channel1-96-H-12.tif": ("8449f11ff363defcdc607febc03231f11744cb2c8b4aab7c2a44b402f2c9b71a", 443728),
    "Channel2-01-A-01.tif": ("9f04d4a1a91a10ddb2ca6ac7f48259fccc1e20a4fea0a9c16f6b6ff74fd09bc4", 445464),
    "Channel2-02-A-02.tif": ("d124d76ee057a04538331e1bc73dde1c5810b9d76ba2814a1b7a8a5d054185b0", 445048),
    "Channel2-03-A-03.tif": ("9cebb486b111bd26e5f06a371778eee1210ee3257766ec91d89e7743ac69ef11", 445860),
    "Channel2-04-A-04.tif": ("a32050516946349b9366cd027064cd2d3c4701b9181f7697186e716a0e823ef8", 442632),
    "Channel2-05-A-05.tif": ("308c13fcbb5485c70bb87abe44549a240343b8749eed7c220085979691cd4d25", 444264),
    "Channel2-06-A-06.tif": ("81b63e7b985188d63c937e5a6669c7a8c6a127b0f1f12523eb313d1696ec69a6", 443976),
    "Channel2-07-A-07.tif": ("7b1bb1e089973991902f9b0bda933af730a05fec96f430e146156c63e9cbf76b", 443860),
    "Channel2-08-A-08.tif": ("b412cd2640504cd7d21de501d468c8b3b8d49fac3c4b1bfe3227397a5a9503dd", 444808),
    "Channel2-09-A-09.tif": ("aaa0eb1841079ee0ab75c6ee58ecd76d111aad916586a5ddbaa45da35dc46566", 443656),
    "Channel2-10-A-10.tif": ("85e95bdc3c72c0222711b0339854a3feb09c197c3e1a174120e2b511493d7686", 443696),
    "Channel2-11-A-11.tif": ("641ddb6efa0cb04b50861f1e1520563a8689bbde2069fd969e73e968f77e49cf", 443284),
    "Channel2-12-A-12.tif": ("3168537d853e1e2a60ed9506861c1ef4144e2a288f92ff43bdb40646e50b5095", 443700),
    "Channel2-13-B-01.tif": ("514d8a0132ad9924c89f68f9884297a4806940c554b2ca6d9868d4ed4e153820", 443108),
    "Channel2-14-B-02.tif": ("af36f8c084ff8559f410f3a60a80226751cc47e11b02d0ecbb1c1a5454663fce", 444512),
    "Channel2-15-B-03.tif": ("2acc36951c0b2be88402f88a0301dacd68da769f1c22ecd1b4d17820118f91b8", 444944),
    "Channel2-16-B-04.tif": ("cad450ccab48309acfaafcf4b165d52453af2c55d6384465a763eca1837ef4be", 443504),
    "Channel2-17-B-05.tif": ("400c3ab6c5787dbe18e5ec45d2867c490dbf218b6acf9a195c6f02b61819bb8a", 444196),
    "Channel2-18-B-06.tif": ("2b6fa80ae6cbccf1d246545ea6cb7824be2a7c4ae00dbe163d432e163aae49bb", 443492),
    "Channel2-19-B-07.tif": ("057d8c722d859759a9e0291ed5a13f927c9c957a892d8fae512f0501d84f063d", 443488),
    "Channel2-20-B-08.tif": ("7f0c861ae0cc1f00666020ae11ad89a81cdd878363f25fa655cfcdd641f0fe67", 444056),
    "Channel2-21-B-09.tif": ("7bf442315b5a7d4268df4e9e172242af3f02f204c0c0cdf9fad6172ff9d5826d", 443404),
    "Channel2-22-B-10.tif": ("148ce9c6c83d591b22edea9cc59afb747e8f8d22831fd4dd704810b1ec966bba", 443364),
    "Channel2-23-B-11.tif": ("cccffe2deb583ad1f46ca138ee4166f8c34fead4fc89b8113d6ca84b7ce4e210", 444164),
    "Channel2-24-B-12.tif": ("7ab6d8192ffa6e0833be1ce6efe00d5c84ebd915b68fafd2ebf856e8f64e6a07", 442616),
    "Channel2-25-C-01.tif": ("6ddbacfa39b9ded48cb361e9135f14ff1b247da2420f20853bd7261733ae064f", 443116),
    "Channel2-26-C-02.tif": ("9e5b95f4144e23e0a9fb1ceb95f5968e3550d7fb7aad6b39dbfb95157d92e4ff", 443724),
    "Channel2-27-C-03.tif": ("744eacc741e9a1a3aa860988c50af66c1d7a0ce3a8b2abe63b25a9098fea688a", 442660),
    "Channel2-28-C-04.tif": ("14b13d7feff6202fa03bfed3dce58e15abe1636f39cc6a777b9c1bb07ed9905e", 444392),
    "Channel2-29-C-05.tif": ("b699c35c3179a91d5fce03201ffe4fafacec17a622ee366923a548a8f1d88f48", 443012),
    "Channel2-30-C-06.tif": ("3250585be67a6dc049ab63944b2450435c4f53d4d6be8fdff9e4d5691e5d28c6", 443136),
    "Channel2-31-C-07.tif": ("df63f443bf9b6156675b765c65fa1acdb1926b667196eabd197fab9ac659d7ef", 442572),
    "Channel2-32-C-08.tif": ("18c172a9c6d31d44bc8619e9fc199d5e2fbadc322c084419fc6c952d4a0cc571", 443916),
    "Channel2-33-C-09.tif": ("8a3845a9d84364cd697d7352898ebcf077c2e17745a42bae5d25a88d5a2a1548", 442500),
    "Channel2-34-C-10.tif": ("f4a25474332c071107e849a378703f42507ecd518bdbcb0f10eb70e89ccd090d", 443680),
    "Channel2-35-C-11.tif": ("975f55382c982ce1489db603f8da1e32522d3907af9a52b16c084127975d04de", 442904),
    "Channel2-36-C-12.tif": ("c7282c62bc7f96127c62a784f2bd2da17987d740d0711d6de11359703fbf6be6", 443848),
    "Channel2-37-D-01.tif": ("6d61fb697d41a860ae0ed06c59223a21eed9b211ba396a908133ddd80e65a240", 443964),
    "Channel2-38-D-02.tif": ("f4af2e5b28b2bc3956cbcd3d148f6cef2ef8e40ae425dae7b78889ad5c81e485", 444376),
    "Channel2-39-D-03.tif": ("ce4ad1cec88171ad2be7db5bb16fae27d06d2a0af28e69373e0eb29e9ee2b9f2", 443264),
    "Channel2-40-D-04.tif": ("fcd9c7979d325ab0a4f7879ba21e9d9e03942ece8d2253434dbad4f2021f1034", 443404),
    "Channel2-41-D-05.tif": ("598f34780c44442b321ce77bedfd6becc765496d7d5f28a82033515ee7f54e7e", 444668),
    "Channel2-42-D-06.tif": ("f44617c00bc594bae42c613a4e0e6cff1b6b4417146fb7ed0de5963724450a93", 443384),
    "Channel2-43-D-07.tif": ("c1992cf0b4b4ae8d9b5cfa9be9400721513df3d981930ef2e43494653941fb95", 443404),
    "Channel2-44-D-08.tif": ("3626e66dab2634908b026581adf5fc613e240764cedebae4aebc3ffb0967d236", 442824),
    "Channel2-45-D-09.tif": ("d6bca9cee96efc2844d995288d4cb20d8e6d54eb5b7e70ea02f41d770c30f21b", 442928),
    "Channel2-46-D-10.tif": ("c36e076388ef6651008393a871694c262740fe77410b5346ce10c28868a6bfa1", 443320),
    "Channel2-47-D-11.tif": ("f3853ab49db0325040d4a3b1ff08b78f95e4f189671a9eb456b0fff7abe051a2", 442380),
    "Channel2-48-D-12.tif": ("94fc5b5623eb0a8cdc5304b442f20aaf156dfc09146db8eb50a9c26404bdcf64", 443544),
    "Channel2-49-E-01.tif": ("7bf0e4da4725450d58a98829d02d3b727fd3af7478089ca4f129f5ac32f94c0f", 445128),
    "Channel2-50-E-02.tif": ("67e1e49b797494241d5e6ac97c57145d49a4c92a36b68f82a36167c0bb017d1e", 443024),
    "Channel2-51-E-03.tif": ("4f4083131c1191a0dbd94486d0b7fd0eab2d88ae593d76df9276758b4daa8b34", 443164),
    "Channel2-52-E-04.tif": ("15a5953ab2f95ccbfb0d1ea138fad4fccffc48f628ce5e4f821ccc5f58d6707d", 443144),
    "Channel2-53-E-05.tif": ("c7c76b326362ee9cca4b9c0034ff5d0b3115f22dea3ae7e3975385fdf62714bd", 443360),
    "Channel2-54-E-06.tif": ("5565567dbddf82fc5fcfdb554e663857e89e72313e1df1843bc32bdbed42be4e", 442664),
    "Channel2-55-E-07.tif": ("743c984fefce2458b6812f08b38cacf789f6e758c6369aa6548d08987b5909df", 443616),
    "Channel2-56-E-08.tif": ("da0f915345d875182056387239ce56c2df0a60fcb2eb34e03b4a938c787f5943", 443832),
    "Channel2-57-E-09.tif": ("ea466fff7a7b497afbe97f97b1c69431a97c4d5fce35f5e45dd9cfbc59965735", 443020),
    "Channel2-58-E-10.tif": ("3ab33f0e7f78141912ef2729bf577999dcce356adf3b24f6755af997f12b56f2", 441900),
    "Channel2-59-E-11.tif": ("f3299763fe54dd840d9790697fce20b68d876c6f2de60b02ded975f80aa94c67", 442768),
    "Channel2-60-E-12.tif": ("dd466133170293d99ad60d8d729b6bfdbb48951889de4d3d5978652454fdf29f", 442752),
    "Channel2-61-F-01.tif": ("a7626794c858b0c5242b0bc5e47a3f3525317cfc4597a4cd56fc864f7b97a3e9", 444608),
    "Channel2-62-F-02.tif": ("9179a29f9fb4aaa732281ad500984c66c2bb3c0e03a783b65cc28dfec68e277d", 443768),
    "Channel2-63-F-03.tif": ("53cdb4c6c92cf0ddad840de90d259975d33f55606d6068580018efe193b6f42a", 442504),
    "Channel2-64-F-04.tif": ("cb9566e154c4bcb2d31976e49d46efbff43a4e11f81103817b6c760ceff825c2", 443288),
    "Channel2-65-F-05.tif": ("9b03414aca31a5bda22bf1d133148cefa0713230d84f94562d4d3c26522ac2ff", 443036),
    "Channel2-66-F-06.tif": ("47475d12aabdf33aaa44c9c76650b3bf0f929e2280b5dec4553dd47d22ccd85b", 444004),
    "Channel2-67-F-07.tif": ("ffaf6f2b8c211f011d8e5c552477c35b7f8f39e5fc3e699cf9120f747c1141cc", 443352),
    "Channel2-68-F-08.tif": ("49dad61e5a11db4188615a0de4a3effa08eaf763e3cf11fddd32781b4d6ce898", 443092),
    "Channel2-69-F-09.tif": ("272664cb03f79acabf089e870cf359b97556a19325b4a13d0fe5c0beb6f40b62", 443192),
    "Channel2-70-F-10.tif": ("96bac7024d2e6208bf90df89a110192164ae4af9090ee38695da34e0a32dee70", 442060),
    "Channel2-71-F-11.tif": ("19040d3b8dc19df976fd63e40be137183060b31832cd6550003e4657f4d12bd2", 443608),
    "Channel2-72-F-12.tif": ("11a18046decaeaa0d2bec7e7ace25d2f38583d1d171383ff86af3fad54963a88", 442880),
    "Channel2-73-G-01.tif": ("eec850736fee5827aedb841d4c7e0f389d49b57d16fce1062235f927d41e7e63", 445272),
    "Channel2-74-G-02.tif": ("5e6a9c5fefc30ea156b8f206fb0ca20af8d4dd1cddb0aa99bb75848748b80f2d", 442756),
    "Channel2-75-G-03.tif": ("a63561253d034374575a3699f66e0542f5bb6fb957f78e1ae387c96ad1a19ebf", 444088),
    "Channel2-76-G-04.tif": ("433a2b505d6441bb14cfde49de765b2565f339c7362576522995f299ecba3ad1", 443148),
    "Channel2-77-G-05.tif": ("9cc422a1262f6b859907324bacefc8d90ebad8d25c4208416da17cd03d22ec60", 443844),
    "Channel2-78-G-06.tif": ("c1001c0f6e6c08aee238db5c586d065d9295efe9e80c8e437f11f4554ef3dbd1", 443932),
    "Channel2-79-G-07.tif": ("3bb9f75d929d40bf9da0944bc29bfd46cba1246ce58b88de11d39f6ec3aa87c5", 443432),
    "Channel2-80-G-08.tif": ("2bef6fb81e9787fcda5aa1a5eab67319434d88403c8be6da75707518562d5f94", 442308),
    "Channel2-81-G-09.tif": ("0698ec95021964516e90d2f0f94fb2af8cb9e46693c8bfeceb82fbdc37d6d1ba", 444112),
    "Channel2-82-G-10.tif": ("05e023de7acb6c231b1be6a81585c51b3f01512ceb73840bf7a2070ecf3eb426", 443088),
    "Channel2-83-G-11.tif": ("37c0d2c65c385aa248cf4e983b30e31d913c58e6294af8e458de957c223c42dd", 442364),
    "Channel2-84-G-12.tif": ("eeaf024b6fe807d26a156dd622dfcd868142ddf3f4e121d54a691fa49b48274e", 442528),
    "Channel2-85-H-01.tif": ("5e2eb7570d6579290d2a8a395c21a9c763201664ae1e39bc0b3b3a8a24ae28fa", 445628),
    "Channel2-86-H-02.tif": ("277da44d625110a98f6f5d784f82a659c048a3e2d43c550391b5743ae09049dc", 444412),
    "Channel2-87-H-03.tif": ("cba4752f2abfd1fb04a8b99699b301aec3fd594f0ea0af66151f03dfebfb6b69", 443232),
    "Channel2-88-H-04.tif": ("b1689f4d468f5c20af535b3bee18c4330fcba41bfb64a167d43b5c25b28dca0c", 444032),
    "Channel2-89-H-05.tif": ("d4c3aaae1b7d85f2cea890a38537f7397100e672aae6698627489933ea46fdae", 444556),
    "Channel2-90-H-06.tif": ("70a7e865eef838dbafd79521cdd7ab537e72443e52ec8eece5c600b392809747", 442128),
    "Channel2-91-H-07.tif": ("610a7932a922a7a7c24343055cb03f6fd1b3364b2b98c5b040d4deb641d9f475", 443616),
    "Channel2-92-H-08.tif": ("66975bce94562e3bc28f76816766f8bc4554f8d5e01b1e3e36b1e2a68bfb6762", 443816),
    "Channel2-93-H-09.tif": ("7b9d845b03e5f1c6c063bf3d8152ea582d951ffb92fddf9a0ccd941d6ec123a7", 442904),
    "Channel2-94-H-10.tif": ("6ca2bc36fa52fe317c23172c518392d525f62825252817a6c41e63ed647039a3", 443212),
    "Channel2-95-H-11.tif": ("423079721044979fb35fa10f951c1da268a7958d500aac0ff031799b92c3693f", 442920),
    "Channel2-96-H-12.tif": ("0fdfc690ad0854bbaf1ff86b081122170b5b92e783a9700cc4a704e5799a4b9d", 444304),
}

EXAMPLE_SBS_FILES = files_of_folder("ExampleSBSImages", _EXAMPLE_SBS_URL, _EXAMPLE_SBS_HASHES, "BSD-3-Clause")
