# Sourced by ./test and ./demo: makes the repository's own virtual environment, or reuses it.
#
#   openoutcry_venv EXTRAS   sets $venv to an environment that has openoutcry (editable) with these extras
#
# What is installed only ever grows, so the two commands can share one environment: ./test adds the
# developers' tools to what ./demo made. A stamp per set of extras says for which pyproject.toml, Python
# and place it was installed; a second run with the same stamp touches neither pip nor the network.
#
#   OPENOUTCRY_PYTHON   the interpreter to use (default: the first new enough one of python3, python3.13 to 3.11)
#   OPENOUTCRY_VENV     where the environment lives (default: .venv in the repository)

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
venv="${OPENOUTCRY_VENV:-$root/.venv}"

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "$@"
  exit 2
}

find_python() {
  local candidate
  for candidate in ${OPENOUTCRY_PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  fail "openoutcry needs Python 3.11 or newer, and found none (tried: ${OPENOUTCRY_PYTHON:-python3 and python3.11 to 3.13})." \
    "Install one (Debian 12 and later: apt-get install python3 python3-venv), or name it: OPENOUTCRY_PYTHON=/path/to/python3"
}

# Debian ships venv without ensurepip unless python3-venv is installed.
need_ensurepip() {
  local python="$1" package
  "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 && return
  package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "Installing $package, which $python needs to make virtual environments ..."
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y "$package"; } >/dev/null || true
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 && return
  fi
  fail "$python cannot make a virtual environment: its ensurepip module is missing." \
    "Install it, then run this again:  sudo apt-get install $package"
}

make_venv() {
  local python
  "$venv/bin/python" -m pip --version >/dev/null 2>&1 && return
  python="$(find_python)" || exit 2
  need_ensurepip "$python"
  if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then
    fail "$venv exists and is not a virtual environment: move it away, or set OPENOUTCRY_VENV to another place."
  fi
  say "Making a virtual environment in $venv with $("$python" --version) ..."
  rm -rf "$venv"
  "$python" -m venv "$venv" >&2 || fail "Could not make a virtual environment in $venv: see above."
}

stamp_for() {
  { printf '%s\n' "$1" "$root"; "$venv/bin/python" -VV; cat "$root/pyproject.toml"; } | sha256sum | cut -d' ' -f1
}

install_extras() {
  local extras="$1" target="$root"
  [ -z "$extras" ] || target="$root[$extras]"
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check --editable "$target" >&2
}

set_up() {
  local extras="$1" stamp
  stamp="$venv/.installed-${extras//,/-}"
  make_venv
  [ "$(cat "$stamp" 2>/dev/null)" = "$(stamp_for "$extras")" ] && return
  say "Installing openoutcry[$extras] into $venv ..."
  install_extras "$extras" || return 1
  stamp_for "$extras" >"$stamp"
}

# Two commands started together take turns, by a lock on this file. Where flock is missing they must not be.
# Status 1: the packages could not be installed. Status 2: there is no usable Python.
openoutcry_venv() {
  local extras="$1" status=0
  if command -v flock >/dev/null; then
    (flock 9 && set_up "$extras") 9<"$root/scripts/venv.sh" || status=$?
  else
    (set_up "$extras") || status=$?
  fi
  return "$status"
}
