// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/admin"
	"github.com/noctule/noctule/broker/journal"
	"github.com/noctule/noctule/server/config"
	"github.com/noctule/noctule/topic"
)

func init() { verbs = append(verbs, dropsCommand) }

// dropsFlags say which drops are listed, from where, and how.
type dropsFlags struct {
	config, admin, data         string
	client, topic, cause, since string
	limit                       int
	output                      string
	follow                      bool
}

func dropsCommand() *cobra.Command {
	f := &dropsFlags{}
	cmd := &cobra.Command{
		Use:   "drops [flags]",
		Short: "List messages that were dropped, and why",
		Long: `List messages of QoS 1 and 2 that were dropped, the oldest first: what did not fit into a queue, expired, was refused,
or ended with a session. The broker that runs on this host is asked, by its admin server; with --data the file in that data
directory is read, which also has what was dropped before the last start. Above 1 000 drops a second the rest is counted by
cause.

Exit codes: 0 they were listed, 1 the broker does not answer or the file cannot be read, 2 the command line is wrong.`,
		Example: `  noctule drops --since 1h
  noctule drops --client lamp-7 -o csv
  noctule drops --data /var/lib/noctule --topic 'home/#'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return f.run(cmd.OutOrStdout()) },
	}
	fs := cmd.Flags()
	fs.StringVarP(&f.config, "config", "c", os.Getenv("NOCTULE_CONFIG"), "configuration `file` of the broker, for the address of its admin server")
	fs.StringVar(&f.admin, "admin", "", "`address` of the admin server")
	fs.StringVar(&f.data, "data", "", "read the file in this data `directory` instead")
	fs.StringVar(&f.client, "client", "", "only what this `client` missed")
	fs.StringVar(&f.topic, "topic", "", "only topics that match this `filter`")
	fs.StringVar(&f.cause, "cause", "", "only this `cause`, such as filter_oldest or message_expired")
	fs.StringVar(&f.since, "since", "", "only since this `time`, such as 10m (ago) or 2026-01-02T15:04:05Z")
	fs.IntVar(&f.limit, "limit", journal.Most, "at most the last `number`")
	fs.StringVarP(&f.output, "output", "o", "table", "`form`: table, json (an object a line) or csv")
	fs.BoolVar(&f.follow, "follow", false, "go on listing what is dropped from now on")
	return cmd
}

// usage is a mistake in the command line.
func usage(format string, args ...any) error { return &exit{exitUsage, fmt.Errorf(format, args...)} }

func (f *dropsFlags) run(w io.Writer) error {
	q, err := f.query()
	if err != nil {
		return err
	}
	lister, err := newDropLister(f.output, w)
	if err != nil {
		return err
	}
	if f.data != "" {
		drops, err := journal.Read(f.data, q)
		if err != nil {
			return &exit{exitFailed, err}
		}
		return lister.list(drops)
	}
	address, err := f.address()
	if err != nil {
		return err
	}
	for {
		drops, err := fetchDrops(address, q)
		if err != nil {
			return &exit{exitFailed, err}
		}
		if err := lister.list(drops); err != nil || !f.follow {
			return err
		}
		if len(drops) > 0 {
			q.After, q.Limit = drops[len(drops)-1].Seq, journal.Most
		}
		time.Sleep(time.Second)
	}
}

// query checks what is asked for.
func (f *dropsFlags) query() (q journal.Query, err error) {
	q = journal.Query{Client: f.client, Topic: f.topic, Cause: f.cause, Limit: f.limit}
	if f.topic != "" {
		if filter, err := topic.ParseFilter(f.topic, 0); err != nil || filter.Share != "" {
			return q, usage("--topic: %q is not a topic filter", f.topic)
		}
	}
	if f.since != "" {
		if q.Since, err = admin.ParseSince(f.since, time.Now()); err != nil {
			return q, usage("--since: %w", err)
		}
	}
	switch {
	case f.limit < 1 || f.limit > journal.Most:
		return q, usage("--limit: write a number from 1 to %d", journal.Most)
	case f.follow && f.data != "":
		return q, usage("--follow asks a running broker, and --data reads a file: write one of them")
	}
	return q, nil
}

// address is where the admin server is reached from this host.
func (f *dropsFlags) address() (string, error) {
	address := f.admin
	if address == "" {
		c, err := config.Load(config.Input{File: f.config, Environ: os.Environ()})
		if err != nil {
			return "", failed(err)
		}
		if c.Admin.Off() {
			return "", &exit{exitFailed, errors.New("the admin server is off (admin.address); read the file with --data DIRECTORY")}
		}
		address = c.Admin.Address
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", usage("--admin: %w", err)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// fetchDrops asks a running broker.
func fetchDrops(address string, q journal.Query) ([]journal.Drop, error) {
	v := url.Values{"limit": {strconv.Itoa(q.Limit)}}
	for name, value := range map[string]string{"client": q.Client, "topic": q.Topic, "cause": q.Cause} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.Format(time.RFC3339Nano))
	}
	if q.After > 0 {
		v.Set("after", strconv.FormatUint(q.After, 10))
	}
	client := http.Client{Timeout: 30 * time.Second}
	resp, err := client.Get("http://" + address + "/api/v1/drops?" + v.Encode())
	if err != nil {
		return nil, fmt.Errorf("the broker's admin server does not answer: %w; name its address with --admin, or read the file with --data DIRECTORY", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var p admin.Problem
		if json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&p) != nil || p.Error == "" {
			p.Error = resp.Status
		}
		return nil, fmt.Errorf("%s: %s", address, p.Error)
	}
	var page admin.Page[journal.Drop]
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return nil, fmt.Errorf("%s: no list of drops: %w", address, err)
	}
	return page.Data, nil
}

// A dropLister prints drops in one form, with a heading before the first.
type dropLister struct {
	form   string
	w      io.Writer
	headed bool
}

func newDropLister(form string, w io.Writer) (*dropLister, error) {
	switch form {
	case "table", "json", "csv":
		return &dropLister{form: form, w: w}, nil
	}
	return nil, usage("-o: %q is not known; write table, json or csv", form)
}

var dropColumns = []string{"TIME", "CAUSE", "CLIENT", "TOPIC", "FILTER", "SIZE", "PUBLISHER", "COUNT"}

func (l *dropLister) list(drops []journal.Drop) (err error) {
	switch l.form {
	case "json":
		lines := json.NewEncoder(l.w)
		for i := range drops {
			if err = lines.Encode(&drops[i]); err != nil {
				break
			}
		}
	case "csv":
		c := csv.NewWriter(l.w)
		l.rows(drops, func(row []string) { c.Write(row) }) //nolint:errcheck // Error has it
		c.Flush()
		err = c.Error()
	default:
		t := tabwriter.NewWriter(l.w, 0, 8, 2, ' ', 0)
		l.rows(drops, func(row []string) {
			for i := range row {
				row[i] = withoutControls(row[i])
			}
			fmt.Fprintln(t, strings.Join(row, "\t"))
		})
		err = t.Flush()
	}
	if err != nil {
		return &exit{exitFailed, err}
	}
	return nil
}

func (l *dropLister) rows(drops []journal.Drop, row func([]string)) {
	if !l.headed {
		l.headed = true
		head := append([]string(nil), dropColumns...)
		if l.form == "csv" {
			for i := range head {
				head[i] = strings.ToLower(head[i])
			}
		}
		row(head)
	}
	for i := range drops {
		d := &drops[i]
		client := d.Client
		if d.Readers > 1 {
			client = fmt.Sprintf("(%d)", d.Readers)
		}
		row([]string{d.Time.Format(time.RFC3339), d.Cause, client, d.Topic, d.Filter, strconv.FormatInt(d.Size, 10), d.Publisher,
			strconv.FormatInt(max(1, d.Count), 10)})
	}
}

// withoutControls shows text of clients without what would move a terminal's cursor.
func withoutControls(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
