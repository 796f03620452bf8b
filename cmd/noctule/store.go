// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/store"
)

func init() { verbs = append(verbs, storeCommand) }

// Exit codes of store verify and store stat; the command line is wrong with exitUsage.
const (
	exitDamaged = 1 // verify: something is damaged
	exitCannot  = 3 // it could not look
)

func storeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Look into a data directory: whether it is whole, and what is in it",
		Long:  "Look into a data directory. Nothing in it is ever changed.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(storeVerifyCommand(), storeStatCommand())
	return cmd
}

// output is the flag -o of verbs whose result is a table, or JSON.
type output string

func (o *output) add(cmd *cobra.Command) {
	cmd.Flags().VarP(o, "output", "o", "`format` of the result: table or json")
}

func (o *output) String() string { return string(*o) }
func (o *output) Type() string   { return "format" }

func (o *output) Set(word string) error {
	if word != "table" && word != "json" {
		return errors.New("it has to be table or json")
	}
	*o = output(word)
	return nil
}

// print writes a result as one or the other.
func (o output) print(w io.Writer, result any, table func(io.Writer)) error {
	var err error
	if o == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		err = e.Encode(result)
	} else {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		table(t)
		err = t.Flush()
	}
	if err != nil {
		return &exit{exitCannot, err}
	}
	return nil
}

func storeVerifyCommand() *cobra.Command {
	place := dataPlace{code: exitCannot}
	format := output("table")
	cmd := &cobra.Command{
		Use:   "verify [flags]",
		Short: "Check every block, row and record of a data directory",
		Long: `Read all of a data directory that no broker has open, and say what is wrong with it: damaged blocks and rows of the state,
damaged records of the log, messages that are missing or that nothing refers to, and the torn end that a power cut
leaves of the log, which is no damage. Nothing is changed: what is damaged the broker sets aside when it starts.

Exit codes: 0 it is sound, 1 something is damaged, 2 the command line is wrong, 3 it could not be judged (in use, not
readable, no store).`,
		Example: `  noctule store verify
  noctule store verify --data /var/lib/noctule -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := place.dir(cmd)
			if err != nil {
				return err
			}
			p := progress(cmd.ErrOrStderr())
			r, err := store.Verify(dir, store.VerifyOptions{Progress: func(n int64) { p.tell(n, "read") }})
			p.end()
			if err != nil {
				return &exit{exitCannot, whatToDo(err, "stop it, or verify a copy: noctule backup makes one while it runs, and reads it again")}
			}
			if err := format.print(cmd.OutOrStdout(), r, func(w io.Writer) { verifyTable(w, &r) }); err != nil {
				return err
			}
			if !r.Sound {
				return &exit{code: exitDamaged}
			}
			return nil
		},
	}
	place.add(cmd)
	format.add(cmd)
	return cmd
}

// whatToDo adds an advice to an error that says that a broker has the directory.
func whatToDo(err error, advice string) error {
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("%w; %s", err, advice)
	}
	return err
}

func verifyTable(w io.Writer, r *store.VerifyReport) {
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Severity, f.File, f.Text)
	}
	if len(r.Findings) > 0 {
		fmt.Fprintln(w)
	}
	contentsTable(w, r.Contents)
	fmt.Fprintf(w, "rows of the state\t%d\n", r.Rows)
	fmt.Fprintf(w, "records of the log\t%d, behind the checkpoint at position %d\n", r.LogRecords, r.Checkpoint)
	fmt.Fprintf(w, "position\t%d\n", r.Position)
	for _, a := range r.Aside {
		fmt.Fprintf(w, "set aside before\t%s, %s\n", a.Name, sizeText(a.Bytes))
	}
	damaged := 0
	for _, f := range r.Findings {
		if f.Severity == store.SeverityDamage {
			damaged++
		}
	}
	if r.Sound {
		fmt.Fprintf(w, "\nsound: %s read\n", sizeText(r.Read))
	} else {
		fmt.Fprintf(w, "\nDAMAGED in %d places: restore it from a backup, or let the broker go on with the rest, which sets aside what is damaged\n", damaged)
	}
}

func contentsTable(w io.Writer, c store.Contents) {
	fmt.Fprintf(w, "sessions\t%d\n", c.Sessions)
	fmt.Fprintf(w, "subscriptions\t%d\n", c.Subscriptions)
	fmt.Fprintf(w, "filters with a queue\t%d\n", c.Filters)
	fmt.Fprintf(w, "messages\t%d, %s\n", c.Messages, sizeText(c.MessageBytes))
	fmt.Fprintf(w, "retained messages\t%d, %s\n", c.Retained, sizeText(c.RetainedBytes))
	fmt.Fprintf(w, "wills\t%d\n", c.Wills)
	fmt.Fprintf(w, "deliveries in flight\t%d\n", c.Inflight)
}

func storeStatCommand() *cobra.Command {
	place := dataPlace{code: exitCannot}
	format := output("table")
	cmd := &cobra.Command{
		Use:   "stat [flags]",
		Short: "Say what a data directory holds, and who has most of it",
		Long: `Count what is in a data directory: sessions, subscriptions, messages, retained messages; the longest queues and the
sessions with most messages; the sizes of log and state. Without --data, if a broker has the configured directory open, its
admin server is asked instead, which tells what is kept but not the sizes of files.

Exit codes: 0 it was printed, 2 the command line is wrong, 3 it could not look.`,
		Example: `  noctule store stat
  noctule store stat --data /var/lib/noctule -o json
  noctule store stat --admin 127.0.0.1:18083`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return place.choose(cmd,
				func(dir string) error { return statFolder(cmd.OutOrStdout(), dir, format) },
				func(a adminServer) error { return statBroker(cmd, a, format) })
		},
	}
	place.add(cmd)
	place.addAdmin(cmd)
	format.add(cmd)
	return cmd
}

func statFolder(w io.Writer, dir string, format output) error {
	r, err := store.Stat(dir, nil)
	if err != nil {
		return err
	}
	return format.print(w, r, func(w io.Writer) {
		fmt.Fprintf(w, "format\t%d, %d topic groups\n", r.Format, r.Groups)
		inventoryTable(w, &r.Inventory)
		fmt.Fprintf(w, "checkpoint\tat position %d\n", r.Checkpoint)
		fmt.Fprintf(w, "log\t%s, %d records behind the checkpoint\n", sizeText(r.LogBytes), r.LogRecords)
		fmt.Fprintf(w, "state\t%s\n", sizeText(r.StateBytes))
		fmt.Fprintf(w, "set aside\t%s\n", sizeText(r.AsideBytes))
		fmt.Fprintln(w, "\nIN THE STATE\tROWS\tSIZE, NOT COMPRESSED")
		for _, k := range r.Kinds {
			fmt.Fprintf(w, "%s\t%d\t%s\n", k.Kind, k.Rows, sizeText(k.Bytes))
		}
		mostTable(w, &r.Inventory)
	})
}

func statBroker(cmd *cobra.Command, a adminServer, format output) error {
	var i store.Inventory
	body, err := a.get(cmd.Context(), "/api/v1/store")
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&i); err != nil {
		return fmt.Errorf("%s: %w", a.url, err)
	}
	return format.print(cmd.OutOrStdout(), i, func(w io.Writer) {
		inventoryTable(w, &i)
		mostTable(w, &i)
	})
}

func inventoryTable(w io.Writer, i *store.Inventory) {
	contentsTable(w, i.Contents)
	fmt.Fprintf(w, "position\t%d\n", i.Position)
}

// mostTable lists who has most.
func mostTable(w io.Writer, i *store.Inventory) {
	if len(i.Queues) > 0 {
		fmt.Fprintln(w, "\nLONGEST QUEUES\tMESSAGES\tSIZE\tREADERS")
	}
	for _, q := range i.Queues {
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\n", withoutControls(q.Filter), q.Messages, sizeText(q.Bytes), q.Readers)
	}
	if len(i.Sessions) > 0 {
		fmt.Fprintln(w, "\nBIGGEST SESSIONS\tMESSAGES\tSIZE\tIN FLIGHT\tSUBSCRIPTIONS\t")
	}
	for _, s := range i.Sessions {
		there := ""
		if s.Attached {
			there = "connected"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%s\n", withoutControls(s.ClientID), s.Messages, sizeText(s.Bytes), s.Inflight, s.Subscriptions, there)
	}
}

// sizeText is a size for people.
func sizeText(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), -1
	for f >= 1<<10 && unit < 4 {
		f /= 1 << 10
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[unit])
}

// progress tells on standard error how far something long is.
func progress(w io.Writer) *progressWords { return newProgress(w, isTerminal(os.Stderr)) }
