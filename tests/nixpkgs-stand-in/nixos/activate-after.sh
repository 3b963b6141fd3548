
point() { # point LINK TARGET: one atomic step
    ln -sfn "$2" "$1.new" && mv -T "$1.new" "$1"
}

point /etc/static "$system/etc"

# What an earlier system put into /etc and this one doesn't have.
find /etc -lname '/etc/static/*' ! -exec test -e {} \; -exec rm {} +
if [ -e /etc/.clean ]; then
    while read -r file; do
        [ -e "/etc/static/$file" ] || rm -f "/etc/$file"
    done < /etc/.clean
fi
: > /etc/.clean

for file in $(cd "$system/etc" && find . ! -type d ! -name '*.mode' -printf '%P\n'); do
    mkdir -p "$(dirname "/etc/$file")"
    if [ -e "$system/etc/$file.mode" ]; then
        install -m "$(cat "$system/etc/$file.mode")" "$system/etc/$file" "/etc/$file.new"
        mv -T "/etc/$file.new" "/etc/$file"
        echo "$file" >> /etc/.clean
    else
        point "/etc/$file" "/etc/static/$file"
    fi
done

point /run/current-system "$system"
# A machine that has never booted a system counts as booted from its first one.
[ -e /run/booted-system ] || point /run/booted-system "$system"
mkdir -p /nix/var/nix/gcroots
point /nix/var/nix/gcroots/current-system /run/current-system
point /nix/var/nix/gcroots/booted-system /run/booted-system
exit "$status"
