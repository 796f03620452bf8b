// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/plugin"
	aclfile "github.com/noctule/noctule/plugins/acl/file"
	"github.com/noctule/noctule/topic"
)

func init() { verbs = append(verbs, aclCommand) }

// exitDenied is what `acl test` ends with when the answer is no.
const exitDenied = 1

func aclCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "acl",
		Short: "Ask a file of access rules",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return &exit{exitUsage, errors.New("acl needs a verb: test")}
		},
	}
	cmd.AddCommand(aclTestCommand())
	return cmd
}

func aclTestCommand() *cobra.Command {
	var path, clientID string
	cmd := &cobra.Command{
		Use:   "test USER publish|subscribe|receive|will TOPIC",
		Short: "Say whether a user may, and which rule says so",
		Long: `Test answers as acl.file would, and names the line that decides. USER is "" for clients without a user name. A
subscription is allowed if anything may come of it; each message is then asked about by itself, as receive is here.

Exit codes: 0 allowed, 1 denied, 2 the command line or the file is wrong.`,
		Example: "  noctule acl test alice publish home/lamp --file acl.txt --client lamp-7",
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			access, err := accessOf(args[0], clientID, args[1], args[2])
			if err != nil {
				return &exit{exitUsage, err}
			}
			acl, err := aclfile.Read(path)
			if err != nil {
				return &exit{exitUsage, err}
			}
			d := acl.Authorize(access)
			fmt.Fprintf(cmd.OutOrStdout(), "%v: %s%s\n", d.Verdict, d.Rule, lineOf(path, d.Rule))
			if d.Verdict != plugin.Allow {
				return &exit{code: exitDenied}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&path, "file", "f", aclfile.DefaultFile, "the file of rules")
	cmd.Flags().StringVar(&clientID, "client", "", "the client identifier, for patterns with %c")
	return cmd
}

// accessOf is the question that the arguments ask.
func accessOf(user, clientID, action, about string) (*plugin.Access, error) {
	a := &plugin.Access{
		Client: &plugin.Client{ID: clientID, Username: user, Anonymous: user == ""},
		Topic:  about,
	}
	switch action {
	case "publish", "pub":
		a.Action = plugin.Publish
	case "subscribe", "sub":
		f, err := topic.ParseFilter(about, 0)
		if err != nil {
			return nil, err
		}
		a.Action, a.Topic, a.Share = plugin.Subscribe, f.Filter, f.Share
		return a, nil
	case "receive":
		a.Action = plugin.Receive
	case "will":
		a.Action = plugin.Will
	default:
		return nil, fmt.Errorf("the action is publish, subscribe, receive or will, not %q", action)
	}
	if !topic.ValidName(about) {
		return nil, fmt.Errorf("%q is no topic name: it is empty, too long, or has + or #", about)
	}
	return a, nil
}

// lineOf is the text of the line that a rule such as acl.txt:12 names, with a colon before it, or nothing.
func lineOf(path, rule string) string {
	number, ok := strings.CutPrefix(rule, filepath.Base(path)+":")
	n, err := strconv.Atoi(number)
	if !ok || err != nil {
		return ""
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "" // the rule is named all the same
	}
	lines := strings.Split(string(text), "\n")
	if n < 1 || n > len(lines) {
		return ""
	}
	return ": " + strings.TrimSpace(lines[n-1])
}
