// The page in a frame of a notebook; tells Python which cells are chosen in it.
function render({ model, el }) {
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-scripts allow-downloads");
  frame.title = model.get("title");
  Object.assign(frame.style, { width: "100%", height: `${model.get("height")}px`, border: "1px solid #8884", boxSizing: "border-box", borderRadius: "6px" });
  frame.srcdoc = model.get("page");
  const hear = event => {
    if (event.source !== frame.contentWindow || event.data?.petri !== "selection") return;
    model.set("selection", event.data.names);
    model.save_changes();
  };
  addEventListener("message", hear);
  el.append(frame);
  return () => removeEventListener("message", hear);
}
export default { render };
