# shellcheck shell=sh
# Sourced by the Dockerfile's steps. Package mirrors and the certificates they need are the builder's, not the
# image's: given as build secrets (ca, apt, cargo), none of which has to be there, and none of which stays.
#   ca     certificates (PEM) that the builder's network wants
#   apt    a sources.list in one-line format
#   cargo  a cargo configuration, such as a [source] replacement
builder=/run/secrets
export DEBIAN_FRONTEND=noninteractive APT_CONFIG=/tmp/builder-side.conf
: > "$APT_CONFIG"
if [ -s "$builder/apt.list" ]; then
  printf 'Dir::Etc::sourcelist "%s";\nDir::Etc::sourceparts "-";\n' "$builder/apt.list" >> "$APT_CONFIG"
fi
if [ -s "$builder/ca.pem" ]; then
  printf 'Acquire::https::CAInfo "%s";\n' "$builder/ca.pem" >> "$APT_CONFIG"
  export CARGO_HTTP_CAINFO=$builder/ca.pem CURL_CA_BUNDLE=$builder/ca.pem PIP_CERT=$builder/ca.pem SSL_CERT_FILE=$builder/ca.pem
fi
if [ -s "$builder/cargo.toml" ]; then
  mkdir -p /root/.cargo && cp "$builder/cargo.toml" /root/.cargo/config.toml
fi
