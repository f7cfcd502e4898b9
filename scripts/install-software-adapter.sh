#!/usr/bin/env bash
# Mesa's lavapipe, a Vulkan driver that computes on the processor, so that the WebGPU tests have an adapter where there is
# no GPU; and Chromium for the page test. Debian and Ubuntu, as root. What is there already is left alone.
#
#   scripts/install-software-adapter.sh [--no-browser]
#
# It never fails: where nothing can be installed it says why in one line, and those tests are skipped.
set -uo pipefail

OLDEST_MESA=23 # older lavapipe lacks what WebGPU needs

say() { echo "software adapter: $*"; }

# Ends the script well, with the reason.
leave() {
  say "$*"
  exit 0
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# A mirror that hangs must not hold up who waits for the tests.
apt() {
  as_root timeout "$1" env DEBIAN_FRONTEND=noninteractive apt-get -qq \
    -o Acquire::Retries=1 -o Acquire::http::Timeout=15 -o Acquire::https::Timeout=15 -o DPkg::Lock::Timeout=30 \
    "${@:2}" >/dev/null 2>&1
}

# The upstream major version in the output of dpkg-query or apt-cache: 25.0.7-2~bpo12+1 has 25.
major() { sed -n 's/^\([0-9]*:\)\{0,1\}\([0-9][0-9]*\)\..*/\2/p' | head -n 1; }

has_lavapipe() {
  compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' >/dev/null || return 1
  ldconfig -p | grep -q 'libvulkan\.so\.1 ' || return 1
  command -v dpkg-query >/dev/null || return 0 # not Debian's: the file is all there is to ask
  local installed
  installed="$(dpkg-query -W -f '${Version}\n' mesa-vulkan-drivers 2>/dev/null | major)"
  [ -z "$installed" ] || [ "$installed" -ge "$OLDEST_MESA" ]
}

has_browser() {
  [ -n "${LONGCTX_CHROMIUM:-}" ] ||
    command -v chromium || command -v chromium-browser || command -v google-chrome
} >/dev/null

# Debian's bookworm has Mesa 22; its backports have a newer one, on the mirror that is in use for bookworm itself.
release=()
add_backports() {
  # shellcheck disable=SC1091
  [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = bookworm ] || return 0
  release=(-t bookworm-backports)
  local index mirror
  index="$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null)"
  if grep -q ' bookworm-backports main$' <<<"$index"; then return 0; fi
  mirror="$(sed -n 's/ bookworm main$//p' <<<"$index" | head -n 1)"
  [ -n "$mirror" ] || leave "no mirror of bookworm is configured, so its backports cannot be added; skipped"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm-backports main" |
    as_root tee /etc/apt/sources.list.d/bookworm-backports.list >/dev/null ||
    leave "/etc/apt cannot be written; skipped"
}

missing=()
has_lavapipe || missing+=(lavapipe)
if [ "${1:-}" != --no-browser ]; then has_browser || missing+=(chromium); fi
[ ${#missing[@]} -gt 0 ] || leave "there already"
[ "$(uname -s)" = Linux ] || leave "${missing[*]} not installed: this is no Linux"
command -v apt-get >/dev/null || leave "${missing[*]} not installed: there is no apt-get here; take your own system's Mesa and Chromium"
as_root true 2>/dev/null || leave "${missing[*]} not installed: that needs root"

# One repository that does not answer is no reason to leave the others.
[[ " ${missing[*]} " == *" lavapipe "* ]] && add_backports
apt 180 update

for what in "${missing[@]}"; do
  case "$what" in
    lavapipe)
      if apt 300 install -y --no-install-recommends ${release[@]+"${release[@]}"} mesa-vulkan-drivers libvulkan1 && has_lavapipe; then
        say "lavapipe installed"
      else
        say "lavapipe could not be installed (apt-get failed, or its Mesa is older than $OLDEST_MESA); tests on an adapter are skipped"
      fi
      ;;
    chromium)
      if apt 300 install -y --no-install-recommends chromium && has_browser; then
        say "chromium installed"
      else
        say "chromium could not be installed; the page test is skipped"
      fi
      ;;
  esac
done
exit 0
