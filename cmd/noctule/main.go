// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Command noctule is an MQTT broker, and the tools that belong to one. Without a verb it runs the broker.
//
// Each verb has a file of its own, which adds a function to verbs; nothing else knows of it. Called by the name of one of
// Mosquitto's programs (a link will do) it behaves as that program.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes of the verbs about the server; the others say theirs in their help.
const (
	exitFailed     = 1   // it could not start or go on, or the configuration is wrong
	exitUsage      = 2   // the command line is wrong
	exitDiskFailed = 3   // the disk failed to keep what was written
	exitImpatient  = 130 // a second signal ended it at once
)

// verbs make the commands below root. Each verb's file appends its own while the program starts.
var verbs []func() *cobra.Command

// programs are the names of other programs that verbs stand in for.
var programs = map[string]string{
	"mosquitto_pub": "pub", "mosquitto_sub": "sub", "mosquitto_rr": "rr", "mosquitto_passwd": "passwd",
}

// An exit is an error that ends the program with a code. A nil err was reported before.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

func main() { os.Exit(run(os.Args)) }

// run is main without the end: it returns the exit code.
func run(args []string) int {
	cmd := program(args)
	err := cmd.Execute()
	if err == nil {
		return 0
	}
	code := exitUsage // what cobra refuses
	if e, ok := errors.AsType[*exit](err); ok {
		code, err = e.code, e.err
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "noctule:", err)
		if code == exitUsage {
			fmt.Fprintf(os.Stderr, "\"%s --help\" tells what there is\n", cmd.CommandPath())
		}
	}
	return code
}

// program is root, or the verb that stands in for the program by whose name we were called.
func program(args []string) *cobra.Command {
	name := strings.TrimSuffix(filepath.Base(args[0]), ".exe")
	top := root()
	top.SetArgs(args[1:])
	verb, ok := programs[name]
	if !ok {
		return top
	}
	i := slices.IndexFunc(top.Commands(), func(c *cobra.Command) bool { return c.Name() == verb })
	if i < 0 {
		return top
	}
	cmd := top.Commands()[i]
	top.RemoveCommand(cmd)
	cmd.Use = name + strings.TrimPrefix(cmd.Use, verb)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	noShortHelp(cmd)
	cmd.SetArgs(args[1:])
	return cmd
}

// root is the whole tree of commands.
func root() *cobra.Command {
	cmd := runCommand()
	cmd.Use = "noctule"
	cmd.Short = "An MQTT broker and its tools"
	cmd.Long = "Noctule is an MQTT broker. Without a verb it runs; see \"noctule run --help\" for the flags.\n\n" + exitCodes
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.Version = version().String()
	cmd.SetVersionTemplate("{{.Version}}\n")
	cmd.Flags().Bool("version", false, "print the version")
	cmd.SuggestionsMinimumDistance = 2
	noShortHelp(cmd)
	for _, verb := range verbs {
		cmd.AddCommand(verb())
	}
	return cmd
}

// noShortHelp keeps -h free: in the client verbs it is the host.
func noShortHelp(cmd *cobra.Command) {
	cmd.PersistentFlags().Bool("help", false, "print help")
}

const exitCodes = `Exit codes: 0 it ended as asked, 1 it could not start or go on, 2 the command line is
wrong, 3 the disk failed while it ran, 130 a second signal ended it at once.`
