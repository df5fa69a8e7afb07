// How a measured number differs from the controls in each perturbation and guide.
const differencesRead = new Map();

function differencesOf(column) {
  if (!differencesRead.has(column.id)) {
    if (differencesRead.size > 200) differencesRead.delete(differencesRead.keys().next().value);
    differencesRead.set(column.id, makeDifferences(column));
  }
  return differencesRead.get(column.id);
}

// Which cells are controls, per modality; read once.
const controlCells = once(async () => {
  const column = columnOf.get(meta.keys.perturbation), members = await membersOf(column);
  const isControl = new Uint8Array(meta.cells.n);
  for (const name of meta.controls) for (const cell of members[column.categories.indexOf(name)] || []) isControl[cell] = 1;
  return isControl;
});

async function makeDifferences(column) {
  const perturbation = columnOf.get(meta.keys.perturbation), guide = columnOf.get(meta.keys.guide);
  const [codes, kinds, isControl] = await Promise.all([codesOf(column), codesOf(columnOf.get("modality")), controlCells()]);
  const n = codes.length, nKinds = meta.kinds.length, counts = new Float64Array(nKinds), sums = new Float64Array(nKinds);
  for (let i = 0; i < n; i++) if (isControl[i] && codes[i] !== MISSING) { counts[kinds[i]]++; sums[kinds[i]] += codes[i]; }
  // Modalities may differ in level, so each cell is compared with the mean of the controls of its own.
  const centre = Array.from(counts, (count, kind) => (count ? sums[kind] / count : NaN));
  const controls = momentsOf(codes, kinds, centre, isControl);
  // A dimension of a sparse autoencoder may be 0 in all controls; then the spread of all cells is the unit.
  const spread = Math.sqrt(controls.variance || momentsOf(codes, kinds, centre, new Uint8Array(n).fill(1)).variance);
  const groups = async of => {
    if (!of) return [];
    const found = (await membersOf(of)).map(cells => {
      const m = momentsOfCells(codes, kinds, centre, cells);
      const d = column.group === "gene" ? m.mean * column.step : spread > 0 ? m.mean / spread : NaN;
      return { n: m.n, d: m.n ? d : NaN, p: welch(m, controls) };
    });
    return found;
  };
  const [ofPerturbations, ofGuides] = [await groups(perturbation), await groups(guide)];
  const rows = perturbation.categories.map((name, i) => ({ name, ...ofPerturbations[i], isControl: meta.controls.includes(name) }));
  adjusted(rows.map(row => (row.isControl ? NaN : row.p))).forEach((q, i) => { rows[i].q = q; });
  const guides = guide ? guide.categories.map((name, i) => ({ name, ...ofGuides[i] })) : [];
  return {
    of: new Map(rows.map(row => [row.name, row])), guides: new Map(guides.map(row => [row.name, row])),
    kinds: meta.kinds.filter((_, kind) => counts[kind]).map(kind => kind.name),
  };
}

function momentsOf(codes, kinds, centre, isIn) {
  const cells = [];
  for (let i = 0; i < codes.length; i++) if (isIn[i]) cells.push(i);
  return momentsOfCells(codes, kinds, centre, cells);
}

function momentsOfCells(codes, kinds, centre, cells) {
  let n = 0, mean = 0, squares = 0;
  for (const cell of cells) {
    const value = codes[cell] === MISSING ? NaN : codes[cell] - centre[kinds[cell]];
    if (Number.isNaN(value)) continue;
    n++;
    const step = value - mean;
    mean += step / n;
    squares += step * (value - mean);
  }
  return { n, mean, variance: n > 1 ? squares / (n - 1) : NaN };
}

// Measured features, or dimensions, that a perturbation changes most.
async function changedColumns(name, group, isCurrent) {
  const rows = [], columns = meta.columns.filter(column => column.group === group);
  for (let i = 0; i < columns.length; i++) {
    if (i % 10 === 9) { await new Promise(resolve => setTimeout(resolve)); if (!isCurrent()) return []; }
    const found = (await differencesOf(columns[i])).of.get(name);
    if (found && !Number.isNaN(found.d)) rows.push({ column: columns[i], d: found.d, q: found.q });
  }
  return rows.sort((a, b) => Math.abs(b.d) - Math.abs(a.d));
}
