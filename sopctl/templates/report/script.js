(function () {
  "use strict";
  var tools = document.querySelectorAll(".tool");
  function prepare(tool) {
    var table = document.getElementById(tool.dataset.for);
    var rows = Array.prototype.slice.call(table.tBodies[0].rows);
    var texts = rows.map(function (row) { return row.textContent.toLowerCase(); });
    var search = tool.querySelector("input");
    var selects = Array.prototype.slice.call(tool.querySelectorAll("select"));
    var told = tool.querySelector("output");
    function apply() {
      var words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      var shown = 0;
      rows.forEach(function (row, at) {
        var fits = words.every(function (word) { return texts[at].indexOf(word) >= 0; }) &&
          selects.every(function (select) { return !select.value || row.cells[+select.dataset.column].dataset.value === select.value; });
        row.hidden = !fits;
        if (fits) { shown += 1; }
      });
      told.textContent = tool.dataset.told.replace("{n}", shown).replace("{all}", rows.length);
    }
    function clear() {
      search.value = "";
      selects.forEach(function (select) { select.value = ""; });
      apply();
    }
    search.addEventListener("input", apply);
    search.addEventListener("keydown", function (event) { if (event.key === "Escape") { clear(); } });
    selects.forEach(function (select) { select.addEventListener("change", apply); });
    tool.querySelector("button").addEventListener("click", function () { clear(); search.focus(); });
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (head, column) {
      var button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.textContent = "";
      head.appendChild(button);
      button.addEventListener("click", function () {
        var up = head.getAttribute("aria-sort") !== "ascending";
        var number = head.classList.contains("n");
        Array.prototype.forEach.call(table.tHead.rows[0].cells, function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        function key(row) {
          var cell = row.cells[column];
          var text = cell.dataset.sort === undefined ? cell.textContent.trim().toLowerCase() : cell.dataset.sort;
          return number ? Number(text) : text;
        }
        var order = rows.map(function (row, at) { return [key(row), at]; });
        order.sort(function (a, b) {
          var less = number ? a[0] - b[0] : a[0].localeCompare(b[0], document.documentElement.lang, { numeric: true });
          return (up ? less : -less) || a[1] - b[1];
        });
        order.forEach(function (pair) { table.tBodies[0].appendChild(rows[pair[1]]); });
      });
    });
    tool.hidden = false;
    apply();
    return function (row) { if (rows.indexOf(row) >= 0 && row.hidden) { clear(); row.scrollIntoView(); } };
  }
  var reveal = Array.prototype.map.call(tools, prepare);
  function follow() {
    var row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (row) { reveal.forEach(function (show) { show(row); }); }
  }
  window.addEventListener("hashchange", follow);
  follow();
  document.addEventListener("keydown", function (event) {
    var typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey && tools.length) {
      event.preventDefault();
      tools[0].querySelector("input").focus();
    }
  });
})();
