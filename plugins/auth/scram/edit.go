// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package scram

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/xdg-go/scram"

	"github.com/noctule/noctule/plugins/internal/textfile"
)

// DefaultIterations of new credentials. It is the client, often a small one, that computes them at each login.
const DefaultIterations = 15_000

// ErrNoUser is that the file has no such user.
var ErrNoUser = errors.New("no such user")

// An Editor changes a file of credentials. Comments and the order of lines stay. It belongs to one goroutine.
type Editor struct {
	file  *textfile.File
	lines []string
}

// Edit is an editor for a file whose lines are all good. A file that does not exist is an error that is fs.ErrNotExist.
func Edit(path string) (*Editor, error) {
	f, err := textfile.Read(path)
	if err != nil {
		return nil, err
	}
	if _, err := parseCredentials(f); err != nil {
		return nil, err
	}
	return &Editor{f, slices.Clone(f.Lines)}, nil
}

// EditOrCreate is Edit, or an editor for a new file where there is none.
func EditOrCreate(path string) (*Editor, error) {
	e, err := Edit(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &Editor{file: textfile.New(path)}, nil
	}
	return e, err
}

// Entry is a user in a list.
type Entry struct {
	Name   string `json:"name" yaml:"name"`
	Scheme string `json:"scheme" yaml:"scheme"`
	Line   int    `json:"line" yaml:"line"`
}

// Users lists the users in the order of the file, once for each method.
func (e *Editor) Users() []Entry {
	var all []Entry
	for i, line := range e.lines {
		if name, m, ok := userOf(line); ok {
			all = append(all, Entry{name, m.String(), i + 1})
		}
	}
	return all
}

// Has reports whether there is a user of that name for a method.
func (e *Editor) Has(name string, m Method) bool { return e.find(prepare(name), m) >= 0 }

func (e *Editor) find(name string, m Method) int {
	return slices.IndexFunc(e.lines, func(line string) bool {
		n, other, ok := userOf(line)
		return ok && n == name && other == m
	})
}

// userOf is whom a line is about.
func userOf(line string) (string, Method, bool) {
	if textfile.Comment(line) || strings.HasPrefix(line, secretLine) {
		return "", 0, false
	}
	x, m, err := parseLine(line)
	if err != nil {
		return "", 0, false
	}
	return x.name, m, true
}

// Set gives a user a password for a method, and adds the user if there is none of that name. The password must be one
// that SASLprep (RFC 4013) takes, as clients apply that to what is typed.
func (e *Editor) Set(name string, m Method, iterations int, password []byte) error {
	name = prepare(name)
	switch {
	case len(password) == 0:
		return errors.New("the password is empty")
	case iterations < MinIterations || iterations > MaxIterations:
		return fmt.Errorf("iterations are %d to %d, not %d", MinIterations, MaxIterations, iterations)
	}
	if err := checkName(name); err != nil {
		return err
	}
	c, err := m.hash().NewClient("", string(password), "")
	if err != nil {
		return fmt.Errorf("the password cannot be used with SCRAM: %w", err)
	}
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails
	s, err := c.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: iterations})
	if err != nil {
		return err
	}
	e.put(name, m, s)
	return nil
}

func (e *Editor) put(name string, m Method, s scram.StoredCredentials) {
	enc := base64.StdEncoding.EncodeToString
	line := fmt.Sprintf("%s:%v$%d:%s$%s:%s", name, m, s.Iters, enc([]byte(s.Salt)), enc(s.StoredKey), enc(s.ServerKey))
	if !slices.ContainsFunc(e.lines, func(l string) bool { return strings.HasPrefix(l, secretLine) }) {
		e.lines = append(e.lines, secretLine+enc(newSecret()))
	}
	i := e.find(name, m)
	if i < 0 {
		e.lines = append(e.lines, line)
		return
	}
	e.lines[i] = line
}

// Remove takes a user out, with all methods. The error is ErrNoUser if there is none.
func (e *Editor) Remove(name string) error {
	name = prepare(name)
	before := len(e.lines)
	e.lines = slices.DeleteFunc(e.lines, func(line string) bool {
		n, _, ok := userOf(line)
		return ok && n == name
	})
	if len(e.lines) == before {
		return ErrNoUser
	}
	return nil
}

// Write writes the file, atomically; a new one with mode 0600.
func (e *Editor) Write() error { return e.file.Write(e.lines) }
