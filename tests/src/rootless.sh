# Becomes a program that is root of a user namespace with mounts of its own. In it an ordinary user may make network
# namespaces and record what passes in them. The machine's own network stays, so that a hub can be asked from outside.
# Arguments: the program and its own.
exec unshare --user --map-root-user --mount sh -c 'mount -t tmpfs tmpfs /run && exec "$@"' enter "$@"
