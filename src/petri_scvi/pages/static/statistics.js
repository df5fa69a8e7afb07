// Small statistics.
function logGamma(x) {
  const c = [76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155, 1.208650973866179e-3,
    -5.395239384953e-6];
  let sum = 1.000000000190015, y = x;
  for (const part of c) sum += part / ++y;
  return Math.log((2.5066282746310005 * sum) / x) - (x + 5.5) + (x + 0.5) * Math.log(x + 5.5);
}

// Regularised lower incomplete gamma function: the chance of k or more events where `mean` are expected.
function poissonAtLeast(k, mean) {
  if (k <= 0) return 1;
  if (mean <= 0) return 0;
  const front = k * Math.log(mean) - mean - logGamma(k);
  if (mean < k + 1) {
    let term = 1 / k, sum = term;
    for (let n = k + 1; n < k + 1000; n++) {
      term *= mean / n;
      sum += term;
      if (term < sum * 1e-12) break;
    }
    return Math.min(1, sum * Math.exp(front));
  }
  let b = mean + 1 - k, c = 1e300, d = 1 / b, f = d;
  for (let i = 1; i < 1000; i++) {
    const an = -i * (i - k);
    b += 2;
    d = 1 / (Math.abs(an * d + b) < 1e-300 ? 1e-300 : an * d + b);
    c = Math.abs(b + an / c) < 1e-300 ? 1e-300 : b + an / c;
    f *= d * c;
    if (Math.abs(d * c - 1) < 1e-12) break;
  }
  return Math.max(0, 1 - Math.exp(front) * f);
}

// Benjamini-Hochberg q-values; NaN stays NaN and is no test.
function adjusted(p) {
  const order = p.map((_, i) => i).filter(i => !Number.isNaN(p[i])).sort((a, b) => p[a] - p[b]);
  const q = p.map(() => NaN);
  let least = 1;
  for (let rank = order.length; rank > 0; rank--) {
    least = Math.min(least, (p[order[rank - 1]] * order.length) / rank);
    q[order[rank - 1]] = least;
  }
  return q;
}

// Regularised incomplete beta function, by its continued fraction.
function betaShare(x, a, b) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - betaShare(1 - x, b, a);
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x)) / a;
  let f = 1, c = 1, d = 0;
  for (let i = 0; i <= 300; i++) {
    const m = Math.floor(i / 2);
    const top = i === 0 ? 1 : i % 2 === 0
      ? (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m))
      : (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / (Math.abs(1 + top * d) < 1e-30 ? 1e-30 : 1 + top * d);
    c = Math.abs(1 + top / c) < 1e-30 ? 1e-30 : 1 + top / c;
    f *= c * d;
    if (Math.abs(1 - c * d) < 1e-10) break;
  }
  return front * (f - 1);
}

// Two-sided p-value of Welch's t-test, from numbers, means and variances.
function welch(a, b) {
  const left = a.variance / a.n, right = b.variance / b.n, squared = left + right;
  if (a.n < 3 || b.n < 3 || !(squared > 0)) return NaN;
  const t = (a.mean - b.mean) / Math.sqrt(squared);
  const freedom = squared ** 2 / (left ** 2 / (a.n - 1) + right ** 2 / (b.n - 1));
  return betaShare(freedom / (freedom + t * t), freedom / 2, 0.5);
}
