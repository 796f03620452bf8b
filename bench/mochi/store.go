// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/storage/bolt"
	"github.com/mochi-mqtt/server/v2/hooks/storage/pebble"
)

// keep adds one of the storage hooks, in its strongest setting, with its files in dir.
func keep(server *mochi.Server, engine, dir string) error {
	switch engine {
	case "":
		return nil
	case "pebble":
		return server.AddHook(new(pebble.Hook), &pebble.Options{Path: filepath.Join(dir, "pebble"), Mode: pebble.Sync})
	case "bolt":
		return server.AddHook(new(bolt.Hook), &bolt.Options{Path: filepath.Join(dir, "bolt.db")})
	}
	return fmt.Errorf("%q is neither pebble nor bolt", engine)
}
