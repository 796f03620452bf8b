// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"path/filepath"
	"strings"
)

// folder is what the data directory is called within the user's.
const folder = "noctule"

// defaultData is the data directory where nobody has named one: what systemd made for us, or a folder of our own where
// programs of this user keep their data. It is empty where the environment names neither.
func defaultData(system string, env func(name string) string) string {
	if dirs := env("STATE_DIRECTORY"); dirs != "" { // of StateDirectory=; several are separated by colons
		first, _, _ := strings.Cut(dirs, ":")
		return first
	}
	var base string
	switch home := env("HOME"); {
	case system == "windows":
		base = env("LocalAppData")
		if base == "" {
			base = env("LOCALAPPDATA")
		}
	case system == "darwin" && home != "":
		base = filepath.Join(home, "Library", "Application Support")
	case filepath.IsAbs(env("XDG_DATA_HOME")): // a relative one is to be ignored, says its specification
		base = env("XDG_DATA_HOME")
	case home != "":
		base = filepath.Join(home, ".local", "share")
	}
	if base == "" {
		return ""
	}
	return filepath.Join(base, folder)
}
