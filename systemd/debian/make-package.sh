#!/bin/bash
# Makes a Debian package of what `make install` put into a folder:  make-package.sh VERSION FOLDER OUTPUT
# FOLDER/root is what is installed; beside it is room for work. OUTPUT is the folder for the package.
set -euo pipefail
version=$1 folder=$(realpath "$2") output=$(realpath "$3")
source=$(realpath "$(dirname "$0")")
root=$folder/root
package=portal-worker
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog --file "$source/changelog" --show-field Timestamp)
export SOURCE_DATE_EPOCH

if [[ $(dpkg-parsechangelog --file "$source/changelog" --show-field Version) != "$version" ]]; then
    echo "systemd/debian/changelog has no entry for version $version" >&2
    exit 1
fi

strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root"/usr/bin/*
gzip -9n "$root"/usr/share/man/man?/*
install -D -m 644 "$source/copyright" "$root/usr/share/doc/$package/copyright"
install -D -m 644 "$source/lintian-overrides" "$root/usr/share/lintian/overrides/$package"
gzip -9nc "$source/changelog" >"$root/usr/share/doc/$package/changelog.gz"
chmod 644 "$root/usr/share/doc/$package/changelog.gz"

# What the programs need, by the libraries that they are linked with; dpkg-shlibdeps wants to see a source package.
mkdir -p "$folder/debian"
printf 'Source: %s\n\nPackage: %s\nArchitecture: any\n' "$package" "$package" >"$folder/debian/control"
depends=$(cd "$folder" && dpkg-shlibdeps -O "$root"/usr/bin/* | sed -n 's/^shlibs:Depends=//p')

mkdir -p "$root/DEBIAN"
{
    sed '/^Section:/,$d' "$source/control"
    printf 'Version: %s\nArchitecture: %s\n' "$version" "$(dpkg --print-architecture)"
    printf 'Installed-Size: %s\nDepends: %s\n' "$(du -k --summarize --exclude=DEBIAN "$root" | cut -f1)" "$depends"
    sed -n '/^Section:/,$p' "$source/control"
} >"$root/DEBIAN/control"
install -m 755 "$source"/{postinst,prerm,postrm} "$root/DEBIAN"
(cd "$root" && find usr lib -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
chmod 644 "$root"/DEBIAN/{control,md5sums}
dpkg-deb --root-owner-group --build "$root" "$output/${package}_${version}_$(dpkg --print-architecture).deb"
