// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	authfile "github.com/noctule/noctule/plugins/auth/file"
	"github.com/noctule/noctule/plugins/auth/scram"
)

func init() { verbs = append(verbs, userCommand) }

// userFlags say which file, and how a password comes in.
type userFlags struct {
	path         string
	scram        string // method, or empty for auth.file
	iterations   int
	passwordFile string
	output       string
}

// userCommand has the verbs about users files.
func userCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "List and change the users of a users file",
		Long: `User lists and changes the users in the file of auth.file, or with --scram in that of auth.scram. A running broker
sees the change within seconds.

Exit codes: 0 done, 1 not done, 2 the command line is wrong.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &exit{exitUsage, errors.New("user needs a verb: list, add, remove, passwd or import")}
		},
	}
	cmd.AddCommand(userListCommand(), userAddCommand(), userRemoveCommand(), userPasswdCommand(), userImportCommand())
	return cmd
}

func (f *userFlags) addTo(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.path, "file", "f", "", "the users file (default "+authfile.DefaultFile+", with --scram "+scram.DefaultFile+")")
	flags.StringVar(&f.scram, "scram", "", "the file is that of auth.scram; the value is the method")
	flags.Lookup("scram").NoOptDefVal = scram.SHA256.String()
}

func (f *userFlags) addPasswordTo(cmd *cobra.Command) {
	f.addTo(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.passwordFile, "password-file", "", "read the password from a file's first line; - is standard input")
	flags.IntVar(&f.iterations, "iterations", scram.DefaultIterations, "with --scram: how much work a login is for the client")
}

// userFile is a file of users for one way to log in.
type userFile interface {
	Has(name string) bool
	Set(name string, password []byte) error
	Remove(name string) error
	Write() error
	List() []userEntry
}

// userEntry is a user in a list.
type userEntry struct {
	Name   string `json:"name" yaml:"name"`
	Scheme string `json:"scheme" yaml:"scheme"`
	Line   int    `json:"line" yaml:"line"`
}

type passwordUsers struct{ *authfile.Editor }

func (u passwordUsers) Set(name string, password []byte) error {
	return u.Editor.Set(name, authfile.Argon2id, password)
}

func (u passwordUsers) List() (all []userEntry) {
	for _, e := range u.Users() {
		all = append(all, userEntry(e))
	}
	return all
}

type scramUsers struct {
	*scram.Editor
	method     scram.Method
	iterations int
}

func (u scramUsers) Has(name string) bool { return u.Editor.Has(name, u.method) }

func (u scramUsers) Set(name string, password []byte) error {
	return u.Editor.Set(name, u.method, u.iterations, password)
}

func (u scramUsers) List() (all []userEntry) {
	for _, e := range u.Users() {
		all = append(all, userEntry(e))
	}
	return all
}

// open reads the file; create is whether there may be none.
func (f *userFlags) open(create bool) (userFile, error) {
	if f.scram == "" {
		if f.path == "" {
			f.path = authfile.DefaultFile
		}
		edit := authfile.Edit
		if create {
			edit = authfile.EditOrCreate
		}
		e, err := edit(f.path)
		return passwordUsers{e}, absent(err)
	}
	method, err := scram.ParseMethod(f.scram)
	if err != nil {
		return nil, &exit{exitUsage, err}
	}
	if f.path == "" {
		f.path = scram.DefaultFile
	}
	edit := scram.Edit
	if create {
		edit = scram.EditOrCreate
	}
	e, err := edit(f.path)
	return scramUsers{e, method, f.iterations}, absent(err)
}

// absent says what to do where there is no file.
func absent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w; --file names another, `noctule user add` makes one", err)
	}
	return err
}

// notDone gives an error the exit code of what was not done, unless it has one.
func notDone(err error) error {
	if _, ok := errors.AsType[*exit](err); ok || err == nil {
		return err
	}
	return &exit{exitFailed, err}
}

func userListCommand() *cobra.Command {
	var f userFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List users and how their passwords are hashed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			u, err := f.open(false)
			if err != nil {
				return notDone(err)
			}
			return notDone(printUsers(cmd.OutOrStdout(), f.output, u.List()))
		},
	}
	f.addTo(cmd)
	cmd.Flags().StringVarP(&f.output, "output", "o", "table", "table, json, yaml or csv")
	return cmd
}

func printUsers(w io.Writer, format string, all []userEntry) error {
	if all == nil {
		all = []userEntry{}
	}
	switch format {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(all)
	case "yaml":
		return yaml.NewEncoder(w).Encode(all)
	case "csv":
		c := csv.NewWriter(w)
		rows := [][]string{{"name", "scheme", "line"}}
		for _, u := range all {
			rows = append(rows, []string{u.Name, u.Scheme, strconv.Itoa(u.Line)})
		}
		return c.WriteAll(rows)
	case "table":
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "NAME\tSCHEME\tLINE")
		for _, u := range all {
			fmt.Fprintf(t, "%s\t%s\t%d\n", u.Name, u.Scheme, u.Line)
		}
		return t.Flush()
	}
	return &exit{exitUsage, fmt.Errorf("the output is table, json, yaml or csv, not %q", format)}
}

func userAddCommand() *cobra.Command {
	var f userFlags
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a user; the password is asked for, or read from standard input",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := f.open(true)
			if err != nil {
				return notDone(err)
			}
			if u.Has(args[0]) {
				return notDone(fmt.Errorf("%s: there is a user %q already; `noctule user passwd` changes the password", f.path, args[0]))
			}
			return notDone(f.set(cmd, u, args[0], "added"))
		},
	}
	f.addPasswordTo(cmd)
	return cmd
}

func userPasswdCommand() *cobra.Command {
	var f userFlags
	cmd := &cobra.Command{
		Use:   "passwd NAME",
		Short: "Change a user's password; it is asked for, or read from standard input",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := f.open(false)
			if err != nil {
				return notDone(err)
			}
			if !u.Has(args[0]) {
				return notDone(fmt.Errorf("%s: no such user: %q; `noctule user add` adds one", f.path, args[0]))
			}
			return notDone(f.set(cmd, u, args[0], "changed"))
		},
	}
	f.addPasswordTo(cmd)
	return cmd
}

// set gives a user a password and says what was done.
func (f *userFlags) set(cmd *cobra.Command, u userFile, name, done string) error {
	password, err := f.password(cmd)
	if err != nil {
		return err
	}
	if err := u.Set(name, password); err != nil {
		return err
	}
	if err := u.Write(); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s %q\n", f.path, done, name)
	return nil
}

func (f *userFlags) password(cmd *cobra.Command) ([]byte, error) {
	if f.passwordFile == "" || f.passwordFile == "-" {
		return askPassword(cmd.InOrStdin(), cmd.ErrOrStderr())
	}
	file, err := os.Open(f.passwordFile)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	first, _, err := pipedLines(file)
	if err == nil && len(first) == 0 {
		err = fmt.Errorf("%s: the first line, where the password should be, is empty", f.passwordFile)
	}
	return first, err
}

func userRemoveCommand() *cobra.Command {
	var f userFlags
	cmd := &cobra.Command{
		Use:   "remove NAME...",
		Short: "Remove users",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := f.open(false)
			if err != nil {
				return notDone(err)
			}
			for _, name := range args {
				if err := u.Remove(name); err != nil {
					return notDone(fmt.Errorf("%s: %w: %q", f.path, err, name))
				}
			}
			if err := u.Write(); err != nil {
				return notDone(err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: removed %q\n", f.path, args)
			return nil
		},
	}
	f.addTo(cmd)
	return cmd
}

func userImportCommand() *cobra.Command {
	f, replace := &userFlags{}, false
	cmd := &cobra.Command{
		Use:   "import FROM",
		Short: "Take users over from another file, such as Mosquitto's",
		Long: `Import takes the users of another file over, with their hashes: argon2id, Mosquitto's $7$ and $6$, bcrypt. Passwords in plain text are
hashed before, by noctule passwd -U. All users are taken over, or none.`,
		Example: "  noctule user import /etc/mosquitto/passwd --file users.txt",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := f.importFrom(args[0], replace)
			if err != nil {
				return &exit{exitFailed, err}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d users were taken over into %s\n", n, f.path)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.path, "file", "f", authfile.DefaultFile, "the users file")
	flags.BoolVar(&replace, "replace", false, "users who are there already are replaced")
	return cmd
}

func (f *userFlags) importFrom(path string, replace bool) (int, error) {
	from, err := authfile.Edit(path)
	if err != nil {
		return 0, err
	}
	to, err := authfile.EditOrCreate(f.path)
	if err != nil {
		return 0, err
	}
	n, err := to.Import(from, replace)
	if err != nil {
		return 0, err
	}
	return n, to.Write()
}
