// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/admin"
	"github.com/noctule/noctule/broker/ban"
	"github.com/noctule/noctule/server/config"
)

func init() { verbs = append(verbs, banCommand) }

// banFlags say what is banned, and where the broker is.
type banFlags struct {
	place  dataPlace
	what   map[ban.Kind]*[]string
	span   string
	reason string
	output string
}

func banCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ban",
		Short: "Keep clients out of a running broker",
		Long: `Keep clients out by identifier, user name or address, for ever or for a time. The broker that runs on this host is asked by its
admin server, with the key in its data directory, which the broker's user can read. Bans act at once: clients that are
connected are disconnected. They outlast restarts, in bans.jsonl of the data directory.

Exit codes: 0 done, 1 not done, 2 the command line is wrong.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(banVerb("add", "Ban clients, or change a ban", true, (*banFlags).add), banVerb("remove", "Lift bans", true, (*banFlags).remove),
		banVerb("list", "List the bans in force", false, (*banFlags).list))
	return cmd
}

func banVerb(name, short string, about bool, run func(*banFlags, *cobra.Command) error) *cobra.Command {
	f := &banFlags{place: dataPlace{code: exitFailed}, what: map[ban.Kind]*[]string{}}
	cmd := &cobra.Command{
		Use: name + " [flags]", Short: short, Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(f, cmd) },
	}
	fs := cmd.Flags()
	f.place.add(cmd)
	fs.StringVar(&f.place.admin, "admin", "", "`address` of the admin server")
	if about {
		for kind, help := range map[ban.Kind]string{
			ban.Client: "a client `identifier`", ban.User: "a user `name`", ban.Address: "an `address` or range, such as 192.0.2.0/24",
			ban.ClientPattern: "client identifiers that match a `pattern` with * and ?", ban.UserPattern: "user names that match a `pattern`",
		} {
			f.what[kind] = fs.StringArray(string(kind), nil, help)
		}
	} else {
		fs.StringVarP(&f.output, "output", "o", "table", "`form`: table or json (an object a line)")
	}
	if name == "add" {
		fs.StringVar(&f.span, "for", "", "how `long`, such as 10m or 30d; without it for ever")
		fs.StringVar(&f.reason, "reason", "", "a `text` for those who list bans")
		cmd.Example = "  noctule ban add --address 192.0.2.0/24 --for 1h --reason 'guesses passwords'\n  noctule ban add --client-pattern 'bot-*'"
	}
	return cmd
}

func (f *banFlags) add(cmd *cobra.Command) error {
	var until time.Time
	if f.span != "" {
		d, err := config.ParseDuration(f.span)
		if err != nil || d <= 0 {
			return usage("--for: %q is no time; write one such as 10m or 30d", f.span)
		}
		until = time.Now().Add(d).Round(0)
	}
	return f.each(cmd, func(kind ban.Kind, value string) error {
		body, err := json.Marshal(admin.NewBan{Kind: kind, Value: value, Until: until, Reason: f.reason})
		if err != nil {
			return err
		}
		return f.ask(cmd, http.MethodPost, "", body, nil)
	})
}

func (f *banFlags) remove(cmd *cobra.Command) error {
	return f.each(cmd, func(kind ban.Kind, value string) error {
		return f.ask(cmd, http.MethodDelete, "?"+url.Values{"kind": {string(kind)}, "value": {value}}.Encode(), nil, nil)
	})
}

// each calls do for all that the flags name, and says what was done.
func (f *banFlags) each(cmd *cobra.Command, do func(ban.Kind, string) error) error {
	n := 0
	for _, kind := range ban.Kinds {
		for _, value := range *f.what[kind] {
			n++
			if err := do(kind, value); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s %s\n", map[string]string{"add": "banned", "remove": "not banned any more"}[cmd.Name()], kind, withoutControls(value))
		}
	}
	if n == 0 {
		return usage("say who: --client, --user, --address, --client-pattern or --user-pattern")
	}
	return nil
}

func (f *banFlags) list(cmd *cobra.Command) error {
	if f.output != "table" && f.output != "json" {
		return usage("-o: %q is not known; write table or json", f.output)
	}
	var page admin.Page[ban.Ban]
	if err := f.ask(cmd, http.MethodGet, "", nil, &page); err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if f.output == "json" {
		lines := json.NewEncoder(w)
		for i := range page.Data {
			if err := lines.Encode(&page.Data[i]); err != nil {
				return &exit{exitFailed, err}
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "KIND\tVALUE\tUNTIL\tBY\tREASON")
	for _, b := range page.Data {
		until := "for ever"
		if !b.Until.IsZero() {
			until = b.Until.Local().Format(time.RFC3339)
		}
		fmt.Fprintln(t, strings.Join([]string{string(b.Kind), withoutControls(b.Value), until, b.By, withoutControls(b.Reason)}, "\t"))
	}
	if err := t.Flush(); err != nil {
		return &exit{exitFailed, err}
	}
	return nil
}

// ask sends a request to the broker, and reads its answer into what is not nil.
func (f *banFlags) ask(cmd *cobra.Command, method, query string, body []byte, into any) error {
	server, key, err := f.broker(cmd, method != http.MethodGet)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(cmd.Context(), method, server.url+"/api/v1/bans"+query, bytes.NewReader(body))
	if err != nil {
		return &exit{exitFailed, err}
	}
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	client := http.Client{Timeout: 30 * time.Second}
	resp, err := client.Do(r)
	if err != nil {
		return &exit{exitFailed, fmt.Errorf("the broker's admin server does not answer: %w; name its address with --admin", err)}
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		var p admin.Problem
		if json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&p) != nil || p.Error == "" {
			p.Error = resp.Status
		}
		return &exit{exitFailed, errors.New(p.Error)}
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return &exit{exitFailed, fmt.Errorf("no list of bans: %w", err)}
	}
	return nil
}

// broker is where the admin server is, and the key where one is wanted.
func (f *banFlags) broker(cmd *cobra.Command, change bool) (server adminServer, key string, err error) {
	address := f.place.admin
	if address == "" {
		c, err := f.place.load(cmd)
		if err != nil {
			return server, "", err
		}
		if c.Admin.Off() {
			return server, "", &exit{exitFailed, errors.New("the admin server is off (admin.address), so the broker cannot be asked")}
		}
		address = c.Admin.Address
	}
	if server, err = parseAdmin(address); err != nil || !change {
		return server, "", err
	}
	dir, err := f.place.dir(cmd)
	if err != nil {
		return server, "", err
	}
	b, err := os.ReadFile(filepath.Join(dir, admin.KeyFile))
	if err != nil {
		return server, "", &exit{exitFailed, fmt.Errorf("the key for changes: %w; run this as the broker's user, and name its data directory with --data", err)}
	}
	return server, strings.TrimSpace(string(b)), nil
}
