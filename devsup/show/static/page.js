(async () => {
  const root = document.documentElement;
  const say = text => { document.querySelector("[role=status]").textContent = text; };
  const show = text => {
    const next = new DOMParser().parseFromString(text, "text/html");
    const open = [...document.querySelectorAll("details[open]")].map(each => each.id);
    document.querySelector("main").replaceWith(next.querySelector("main"));
    for (const each of document.querySelectorAll("details")) if (open.includes(each.id)) each.open = true;
    document.title = next.title;
    root.dataset.version = next.documentElement.dataset.version;
  };
  document.addEventListener("click", event => {
    const text = event.target.dataset?.copy;
    if (text) navigator.clipboard.writeText(text).then(() => { event.target.textContent = "Copied"; });
  });
  for (;;) {
    const asking = new AbortController();
    try {
      const answer = await fetch(location.href, { headers: { "X-Devsup-Seen": root.dataset.version, Accept: "text/html" }, cache: "no-store", signal: asking.signal });
      if (answer.status === 503 && answer.headers.has("X-Devsup-Version")) {
        const seen = root.dataset.version;
        show(await answer.text());
        if (root.dataset.version === seen) await new Promise(done => setTimeout(done, 1000));
        continue;
      }
      asking.abort();
      if (root.dataset.method !== "GET") return say("It serves again. Go back, or send the form once more.");
      return location.reload();
    } catch {
      say("devsup does not answer any more. This page tries again every two seconds.");
      await new Promise(done => setTimeout(done, 2000));
    }
  }
})();
