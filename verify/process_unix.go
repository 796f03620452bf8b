// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package verify

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// ownGroup puts a command into a process group of its own, so that what it starts dies with it.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// signalGroup signals all processes of a group; it is no error if there is none left.
func signalGroup(p *os.Process, s Signal) error {
	number := syscall.SIGKILL
	if s == Terminate {
		number = syscall.SIGTERM
	}
	err := syscall.Kill(-p.Pid, number)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}
