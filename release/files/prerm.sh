# dpkg says remove, and upgrade when another version follows; rpm how many will be
# left.
case "$1" in
remove | 0) unload_profile ;;
esac
exit 0
