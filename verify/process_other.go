// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package verify

import (
	"errors"
	"os"
	"os/exec"
)

// ownGroup does nothing: there are no process groups here, and what the command starts outlives it.
func ownGroup(*exec.Cmd) {}

// signalGroup ends the process itself. Only Kill is known here.
func signalGroup(p *os.Process, s Signal) error {
	if s != Kill {
		return errors.New("this system has no such signal")
	}
	if err := p.Kill(); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
