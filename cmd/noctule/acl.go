// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/mqtt"
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

// aclQuestion is what the flags of `acl test` say of the client and of what it does.
type aclQuestion struct {
	file, client, address string
	groups, claims        []string
	qos                   uint8
	retain                bool
}

func aclTestCommand() *cobra.Command {
	var q aclQuestion
	cmd := &cobra.Command{
		Use:   "test USER publish|subscribe|receive|will TOPIC",
		Short: "Say whether a user may, and which rule says so",
		Long: `Test answers as acl.file would, and names the line that decides. USER is "" for clients without a user name. A
subscription is allowed if anything may come of it; each message is then asked about by itself, as receive is here.

Exit codes: 0 allowed, 1 denied, 2 the command line or the file is wrong.`,
		Example: "  noctule acl test alice publish home/lamp --file acl.txt --client lamp-7 --group staff --claim tenant=acme --qos 1",
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			access, err := q.access(args[0], args[1], args[2])
			if err != nil {
				return &exit{exitUsage, err}
			}
			acl, err := aclfile.Read(q.file)
			if err != nil {
				return &exit{exitUsage, err}
			}
			d := acl.Authorize(access)
			fmt.Fprintf(cmd.OutOrStdout(), "%v: %s%s\n", d.Verdict, d.Rule, lineOf(q.file, d.Rule))
			if d.Verdict != plugin.Allow {
				return &exit{code: exitDenied}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&q.file, "file", "f", aclfile.DefaultFile, "the file of rules")
	f.StringVar(&q.client, "client", "", "the client identifier")
	f.StringArrayVar(&q.groups, "group", nil, "a group that the client is a member of; may be given several times")
	f.StringVar(&q.address, "address", "", "the client's IP address")
	f.StringArrayVar(&q.claims, "claim", nil, "a claim, as name=value; may be given several times")
	f.Uint8Var(&q.qos, "qos", 0, "the quality of service of the publish, will or subscription")
	f.BoolVar(&q.retain, "retain", false, "the message is to be retained")
	return cmd
}

// access is the question that arguments and flags ask.
func (q *aclQuestion) access(user, action, about string) (*plugin.Access, error) {
	c := &plugin.Client{ID: q.client, Username: user, Anonymous: user == "", Groups: q.groups}
	if q.address != "" {
		ip, err := netip.ParseAddr(q.address)
		if err != nil {
			return nil, fmt.Errorf("--address %s: it is no IP address, such as 10.0.0.7 or fd00::7", q.address)
		}
		c.Remote = net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))
	}
	for _, claim := range q.claims {
		name, value, ok := strings.Cut(claim, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--claim %s: write name=value", claim)
		}
		if c.Grant == nil {
			c.Grant = &plugin.Grant{Claims: map[string]string{}}
		}
		c.Grant.Claims[name] = value
	}
	if q.qos > 2 {
		return nil, fmt.Errorf("--qos %d: it is 0, 1 or 2", q.qos)
	}
	a := &plugin.Access{Client: c, Topic: about, QoS: mqtt.QoS(q.qos), Retain: q.retain}
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
