# The cluster's authority in `ca`, for secrets.sh, which reads this: by `firmament ca` or by `openssl`, whichever is there.
binary=$(command -v "${FIRMAMENT:-firmament}" || true)
case $binary in
    */*) binary=$(cd "$(dirname "$binary")" && pwd)/$(basename "$binary") ;; # secrets.sh works in another directory
esac
[ -n "$binary" ] || command -v openssl >/dev/null || {
    echo 'certificates need the program firmament or openssl: put one on the PATH, or name the first with FIRMAMENT' >&2
    exit 1
}

authority() {
    if [ -n "$binary" ]; then
        "$binary" ca init --dir ca >/dev/null 2>&1
    else
        mkdir -p ca
        printf '%s\n' '[req]' distinguished_name=name x509_extensions=authority '[name]' '[authority]' \
            basicConstraints=critical,CA:true,pathlen:0 keyUsage=critical,keyCertSign,cRLSign \
            subjectKeyIdentifier=hash >ca/authority.cnf
        openssl req -x509 -config ca/authority.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3652 \
            -subj "/CN=Firmament cluster $(random 6)" -keyout ca/ca.key -out ca/ca.crt 2>/dev/null
    fi
    echo "made $directory/ca: its key makes gateways, keep it away from them"
}

# NAME HOST,HOST...: ca/NAME.crt, with the authority behind it, and ca/NAME.key
issue() {
    [ -s ca/ca.key ] || {
        echo "certificates are issued with the authority's key: put it into $directory/ca/ca.key for that" >&2
        exit 1
    }
    if [ -n "$binary" ]; then
        "$binary" ca issue --dir ca --name "$1" --san "$2" >/dev/null
        return
    fi
    names=
    for host in $(printf %s "$2" | tr , ' '); do
        case $host in
            *[!0-9.]*) names="$names,DNS:$host" ;;
            *) names="$names,IP:$host" ;;
        esac
    done
    printf '%s\n' "subjectAltName=DNS:$1$names" extendedKeyUsage=serverAuth keyUsage=critical,digitalSignature \
        basicConstraints=critical,CA:false authorityKeyIdentifier=keyid >ca/issue.cnf
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "ca/$1.key" \
        -out ca/issue.csr 2>/dev/null
    openssl x509 -req -in ca/issue.csr -CA ca/ca.crt -CAkey ca/ca.key -CAcreateserial -days 90 -extfile ca/issue.cnf \
        -out "ca/$1.crt" 2>/dev/null
    cat ca/ca.crt >>"ca/$1.crt"
}

# What join tokens end with.
fingerprint() {
    if [ -n "$binary" ]; then
        "$binary" ca show --dir ca
    else
        openssl x509 -in ca/ca.crt -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1
    fi
}
