// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func init() { verbs = append(verbs, versionCommand) }

// A build is what this binary was made from.
type build struct {
	Version string // of the module
	Commit  string // empty where it was not built from a repository
	Dirty   bool   // there were changes beyond the commit
	Go      string
}

// version reads what the Go tool left in the binary.
func version() build {
	b := build{Version: "devel", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Dirty = s.Value == "true"
		}
	}
	return b
}

func (b build) String() string {
	s := "noctule " + b.Version
	if b.Commit != "" {
		s += " (commit " + b.Commit
		if b.Dirty {
			s += ", changed"
		}
		s += ")"
	}
	return fmt.Sprintf("%s %s %s/%s", s, b.Go, runtime.GOOS, runtime.GOARCH)
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version()) },
	}
}
