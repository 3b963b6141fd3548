# Refuses a switch that would change the value of an inhibitor that both systems have; `boot` may.
new=$1/switch-inhibitors
old=/run/current-system/switch-inhibitors
[ "$2" != boot ] || { echo "Not checking switch inhibitors (action = $2)"; exit 0; }
[ -e "$old" ] || exit 0
changes=$(while read -r name colon value; do
    before=$(sed -n "s/^$name : //p" "$old")
    [ -z "$before" ] || [ "$before" = "$value" ] || echo "$name : $before -> $value"
done < "$new")
[ -n "$changes" ] || { echo "Checking switch inhibitors... done"; exit 0; }
echo "Checking switch inhibitors..."
echo "There are changes to critical components of the system:"
echo
echo "$changes"
echo
echo "Switching into this system is not recommended."
exit 1
