// Light or dark before the first paint: from the address, else what was chosen here, else what the system says.
{
  const asked = new URLSearchParams(location.search).get("theme") || localStorage.getItem("theme");
  if (asked) document.documentElement.dataset.theme = asked;
}
