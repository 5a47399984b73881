// Filters of the ledger's table, which is complete without them.
const rows = [...document.querySelectorAll(".bn-ledger > tbody > tr")];
const place = document.querySelector(".bn-ledger-filters");
const status = Object.assign(document.createElement("p"), { role: "status" });
const text = Object.assign(document.createElement("input"), { type: "search", autocomplete: "off" });

function field(name, control) {
  control.id = `bn-ledger-${name.toLowerCase()}`;
  const label = Object.assign(document.createElement("label"), { htmlFor: control.id, textContent: name });
  const both = document.createElement("span");
  both.append(label, " ", control);
  place.append(both);
  control.addEventListener("input", show);
  return control;
}

function choice(name, key) {
  const values = [...new Set(rows.map((row) => row.dataset[key]))];
  const select = document.createElement("select");
  select.append(new Option("all", ""), ...values.map((value) => new Option(value)));
  return [field(name, select), key];
}

function show() {
  const words = text.value.toLowerCase().split(/\s+/);
  let shown = 0;
  for (const row of rows) {
    const said = row.textContent.toLowerCase();
    row.hidden = !(choices.every(([{ value }, key]) => !value || row.dataset[key] === value) && words.every((word) => said.includes(word)));
    shown += !row.hidden;
  }
  status.textContent = `${shown} of ${rows.length} claims`;
}

const choices = [choice("Verdict", "verdict"), choice("Chapter", "chapter"), choice("Source", "source")];
field("Words", text);
place.append(status);
show();
