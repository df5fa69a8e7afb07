// Perturbations: cosines of their profiles, known pairs, and what speaks against each.
const profiles = meta.profiles;
const FEW_CELLS = 20, MIN_ALIKE = 0.3;

const placeOfProfile = new Map((profiles?.names || []).map((name, i) => [name, i]));
const spaceShown = () => profiles.spaces.find(space => space.name === state.space) || profiles.spaces[0];
const isControl = name => (meta.controls || []).includes(name);

// Cosines of one profile with all; NaN where there is none.
async function cosinesOf(i, space) {
  const codes = await array(space.vectors, Int8Array), d = space.d, n = profiles.names.length, found = new Float64Array(n);
  const lengths = await lengthsOf(space);
  for (let j = 0; j < n; j++) {
    let sum = 0;
    for (let k = 0; k < d; k++) sum += codes[i * d + k] * codes[j * d + k];
    found[j] = lengths[i] && lengths[j] ? sum / (lengths[i] * lengths[j]) : NaN;
  }
  return found;
}

const lengthsRead = new Map();
async function lengthsOf(space) {
  if (!lengthsRead.has(space.name)) {
    const codes = await array(space.vectors, Int8Array);
    lengthsRead.set(space.name, Float64Array.from({ length: profiles.names.length }, (_, i) => {
      let sum = 0;
      for (let k = i * space.d; k < (i + 1) * space.d; k++) sum += codes[k] * codes[k];
      return Math.sqrt(sum);
    }));
  }
  return lengthsRead.get(space.name);
}

const knownPartners = once(() => {
  const partners = new Map();
  for (const [a, b] of profiles.edges || []) for (const [i, j] of [[a, b], [b, a]]) partners.set(i, (partners.get(i) || new Set()).add(j));
  return partners;
});
const isKnownPair = (i, j) => Boolean(knownPartners().get(i)?.has(j));

// Perturbations that are alike: a cosine about 0 makes no neighbour.
async function neighboursOf(i, space, n) {
  const cosines = await cosinesOf(i, space);
  return Array.from(cosines, (cosine, j) => ({ j, cosine })).filter(({ j, cosine }) => j !== i && !Number.isNaN(cosine) && cosine >= MIN_ALIKE && !isControl(profiles.names[j]))
    .sort((a, b) => b.cosine - a.cosine).slice(0, n);
}

const guidesOf = i => profiles.guides.filter(guide => guide.of === i);
const isDead = guide => guide.p_dead > 0.5;
const strengthOf = name => Object.entries(profiles.strength).map(([modality, found]) => ({ modality, distance: found[name]?.[0], q: found[name]?.[1] }))
  .filter(row => row.distance !== undefined && row.distance !== null);

// What a space of profiles is called: those of one modality, or of all.
const titleOfSpace = space => (space === "fused" ? "all modalities (fused)" : spaced(space));

// Why a finding about a perturbation may not hold. Only modalities that are looked at count: those of the measure
// (`differences`) if there is one, or that of the profiles.
function doubtsAbout(i, differences) {
  const name = profiles.names[i], doubts = [], guides = guidesOf(i);
  if (isControl(name)) return doubts;
  const shown = spaceShown().name, isOfOne = profiles.spaces.length > 1 && shown !== "fused";
  const isMeant = modality => (differences ? differences.kinds.includes(modality) : !isOfOne || modality === shown);
  for (const [modality, counts] of Object.entries(profiles.n_cells)) {
    if (isMeant(modality) && counts[i] < FEW_CELLS) doubts.push(`only ${count(counts[i], "cell")} of ${modality}`);
  }
  if (profiles.has_guides && guides.length < 2) doubts.push("a single guide");
  const consistency = profiles.consistency[name];
  if (consistency && !(consistency.q_value < 0.05)) doubts.push("its guides are not more alike than guides of different perturbations");
  const dead = guides.filter(isDead).length;
  if (dead) doubts.push(`${count(dead, "guide")} probably without effect`);
  // Some effects are seen in one modality only; then the other one is no reason for doubt.
  const tested = strengthOf(name).filter(row => isMeant(row.modality)), weak = tested.filter(row => !(row.q < 0.05));
  if (tested.length && weak.length === tested.length) doubts.push(`not told from controls in ${weak.map(row => spaced(row.modality)).join(" and ")}`);
  if (differences) {
    const mine = differences.of.get(name), of = guides.map(guide => differences.guides.get(guide.name)).filter(row => row && row.n > 2);
    if (mine?.q < 0.05 && of.length > 1) {
      const agreeing = of.filter(row => Math.sign(row.d) === Math.sign(mine.d) && row.p < 0.05).length;
      if (agreeing < 2) doubts.push(agreeing ? "only one guide changes the measure" : "no guide alone changes the measure");
    }
  }
  return doubts;
}

function perturbationLink(name, label = name) {
  return h("a", { href: linkTo({ view: "perturbations", pert: name }), onclick: event => {
    event.preventDefault();
    update({ view: "perturbations", pert: name }, { push: true });
  } }, label);
}
const hasProfile = name => Boolean(profiles) && placeOfProfile.has(name);
