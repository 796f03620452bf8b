// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	authfile "github.com/noctule/noctule/plugins/auth/file"
)

func init() { verbs = append(verbs, passwdCommand) }

// exitInterrupted is what a shell makes of SIGINT.
const exitInterrupted = 130

// maxPassword is the most bytes of a password in MQTT.
const maxPassword = 65535

// passwdFlags are the flags of mosquitto_passwd.
type passwdFlags struct {
	batch, create, remove, update bool
	hash                          string
}

// passwdCommand is mosquitto_passwd.
func passwdCommand() *cobra.Command {
	var f passwdFlags
	cmd := &cobra.Command{
		Use:   "passwd [-H HASH] [-c | -D] FILE USER | [-H HASH] [-c] -b FILE USER PASSWORD | [-H HASH] -U FILE",
		Short: "Change a password file, with the flags of mosquitto_passwd",
		Long: `Passwd changes a password file of auth.file or of Mosquitto, with the flags of mosquitto_passwd. Flags stand
before the file. Without -b the password is asked for, or read from standard input.

Exit codes: 0 done, 1 not done.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.run(cmd, args); err != nil {
				return &exit{exitFailed, err}
			}
			return nil
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exit{exitFailed, err} })
	flags := cmd.Flags()
	flags.SetInterspersed(false) // a password may begin with -
	flags.BoolVarP(&f.batch, "batch", "b", false, "the password is the last argument; others on this computer can see it")
	flags.BoolVarP(&f.create, "create", "c", false, "begin a new file, in the place of one that exists")
	flags.BoolVarP(&f.remove, "delete", "D", false, "remove the user")
	flags.BoolVarP(&f.update, "update", "U", false, "hash the passwords of a file that has them in plain text")
	flags.StringVarP(&f.hash, "hash", "H", authfile.Argon2id.String(), "argon2id, sha512-pbkdf2 or sha512")
	return cmd
}

func (f *passwdFlags) run(cmd *cobra.Command, args []string) error {
	scheme, err := writtenScheme(f.hash)
	if err != nil {
		return err
	}
	want := 2
	switch {
	case f.update && (f.batch || f.create || f.remove), f.remove && (f.batch || f.create):
		return errors.New("these flags do not go together")
	case f.update:
		want = 1
	case f.batch:
		want = 3
	}
	if len(args) != want {
		return fmt.Errorf("%d arguments follow the flags, not %d: %s", want, len(args), cmd.UseLine())
	}
	switch {
	case f.update:
		return hashPlain(args[0], scheme)
	case f.remove:
		return f.removeUser(args[0], args[1])
	}
	return f.setPassword(cmd, args, scheme)
}

// writtenScheme is the scheme of a name, if passwords are written by it.
func writtenScheme(name string) (authfile.Scheme, error) {
	for _, s := range []authfile.Scheme{authfile.Argon2id, authfile.PBKDF2SHA512, authfile.SaltedSHA512} {
		if name == s.String() {
			return s, nil
		}
	}
	return 0, fmt.Errorf("the hash is argon2id, sha512-pbkdf2 or sha512, not %q", name)
}

func hashPlain(path string, s authfile.Scheme) error {
	e, n, err := authfile.HashPlain(path, s)
	if err != nil || n == 0 {
		return err
	}
	return e.Write()
}

func (f *passwdFlags) removeUser(path, name string) error {
	e, err := authfile.Edit(path)
	if err != nil {
		return err
	}
	if err := e.Remove(name); err != nil {
		return fmt.Errorf("%s: %w: %q", path, err, name)
	}
	return e.Write()
}

func (f *passwdFlags) setPassword(cmd *cobra.Command, args []string, s authfile.Scheme) error {
	edit := authfile.Edit
	if f.create {
		edit = authfile.Create
	}
	e, err := edit(args[0])
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w; -c makes a new file", err)
	}
	if err != nil {
		return err
	}
	if err := authfile.CheckName(args[1]); err != nil {
		return err
	}
	var password []byte
	if f.batch {
		password = []byte(args[2])
	} else if password, err = askPassword(cmd.InOrStdin(), cmd.ErrOrStderr()); err != nil {
		return err
	}
	if err := e.Set(args[1], s, password); err != nil {
		return err
	}
	return e.Write()
}

// askPassword asks a person twice, without echo; from what is no terminal it reads a line, and a second one that must then
// be the same.
func askPassword(in io.Reader, words io.Writer) ([]byte, error) {
	var first, second []byte
	var err error
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		first, second, err = typedTwice(int(f.Fd()), words)
	} else {
		first, second, err = pipedLines(in)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the password: %w", err)
	case len(first) == 0:
		return nil, errors.New("the password is empty")
	case !bytes.Equal(first, second):
		return nil, errors.New("the two passwords differ")
	}
	return first, nil
}

// typedTwice reads a password that a person types twice.
func typedTwice(fd int, words io.Writer) (first, second []byte, err error) {
	defer restoreOnInterrupt(fd, words)()
	ask := func(question string) ([]byte, error) {
		fmt.Fprint(words, question)
		defer fmt.Fprintln(words)
		return term.ReadPassword(fd)
	}
	if first, err = ask("Password: "); err != nil {
		return nil, nil, err
	}
	second, err = ask("Once more: ")
	return first, second, err
}

// restoreOnInterrupt gives the terminal its echo back when the person changes their mind. The caller calls what is
// returned when it is done.
func restoreOnInterrupt(fd int, words io.Writer) (done func()) {
	state, err := term.GetState(fd)
	if err != nil {
		return func() {} // reading will fail as well
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	go func() {
		if _, ok := <-interrupted; ok {
			term.Restore(fd, state) // we leave either way
			fmt.Fprintln(words)
			os.Exit(exitInterrupted)
		}
	}()
	return func() {
		signal.Stop(interrupted)
		close(interrupted)
	}
}

// pipedLines reads a password by line, and once more if another line follows.
func pipedLines(in io.Reader) (first, second []byte, err error) {
	r := bufio.NewReader(io.LimitReader(in, 2*maxPassword+4))
	line, err := r.ReadString('\n')
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	first = []byte(strings.TrimRight(line, "\r\n"))
	again, err := r.ReadString('\n')
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	if again = strings.TrimRight(again, "\r\n"); again == "" {
		return first, first, nil
	}
	return first, []byte(again), nil
}
