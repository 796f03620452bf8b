// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/internal/testkit/faultfs"
)

// A commit whose sync is under way when the disk fails elsewhere, as when a checkpoint is written, is not acknowledged, though its own sync
// succeeds.
func TestSyncUnderWayWhenTheDiskFailsIsNotBelieved(t *testing.T) {
	fs := faultfs.New(vfs.NewMem())
	e := openDisk(t, fs, Options{})
	syncing, goOn := make(chan struct{}), make(chan struct{})
	fs.SetFail(func(op, path string) error {
		if op == "sync" && strings.Contains(path, logDir) {
			syncing <- struct{}{}
			<-goOn
		}
		return nil
	})
	got := make(chan error)
	e.ProposePublish(&Publish{Message: message("a", "x", true), Done: func(p *Publish) { got <- p.Err }})
	<-syncing
	fs.SetFail(nil)
	e.disk.fail(syscall.EIO)
	close(goOn)
	if err := <-got; !errors.Is(err, ErrFailed) {
		t.Errorf("got %v, want ErrFailed", err)
	}
	_ = e.Close() // it has failed
}
