// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/noctule/noctule/plugins/internal/textfile"
)

// ErrNoUser is that the file has no such user.
var ErrNoUser = errors.New("no such user")

// An Editor changes a users file. Comments and the order of lines stay. It belongs to one goroutine.
type Editor struct {
	file  *textfile.File
	lines []string
}

// Create is an editor for a new file, which may take the place of an old one.
func Create(path string) (*Editor, error) {
	e, err := open(path)
	if err != nil {
		return nil, err
	}
	e.lines = nil
	return e, nil
}

// Edit is an editor for a file whose lines are all good. A file that does not exist is an error that is fs.ErrNotExist.
func Edit(path string) (*Editor, error) {
	f, err := textfile.Read(path)
	if err != nil {
		return nil, err
	}
	if _, err := parseUsers(f); err != nil {
		return nil, err
	}
	return &Editor{f, slices.Clone(f.Lines)}, nil
}

// EditOrCreate is Edit, or Create where there is no file.
func EditOrCreate(path string) (*Editor, error) {
	e, err := Edit(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Create(path)
	}
	return e, err
}

// open reads a file without a look at its lines; none at all is an empty one.
func open(path string) (*Editor, error) {
	f, err := textfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &Editor{file: textfile.New(path)}, nil
	}
	if err != nil {
		return nil, err
	}
	return &Editor{f, slices.Clone(f.Lines)}, nil
}

// Entry is a user in a list.
type Entry struct {
	Name   string `json:"name" yaml:"name"`
	Scheme string `json:"scheme" yaml:"scheme"`
	Line   int    `json:"line" yaml:"line"`
}

// Users lists the users in the order of the file.
func (e *Editor) Users() []Entry {
	var all []Entry
	for i, line := range e.lines {
		if name, hash, err := parseLine(line); err == nil && !textfile.Comment(line) {
			all = append(all, Entry{name, hash.Scheme().String(), i + 1})
		}
	}
	return all
}

// Has reports whether there is a user of that name.
func (e *Editor) Has(name string) bool { return e.find(name) >= 0 }

func (e *Editor) find(name string) int {
	return slices.IndexFunc(e.lines, func(line string) bool {
		n, _, ok := strings.Cut(line, ":")
		return ok && !textfile.Comment(line) && strings.TrimSpace(n) == name
	})
}

// Set gives a user a password, and adds the user if there is none of that name.
func (e *Editor) Set(name string, s Scheme, password []byte) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := checkPassword(password); err != nil {
		return err
	}
	hash, err := NewHash(s, password)
	if err != nil {
		return err
	}
	line := name + ":" + hash.String()
	if i := e.find(name); i >= 0 {
		e.lines[i] = line
	} else {
		e.lines = append(e.lines, line)
	}
	return nil
}

// checkPassword refuses what no client could send.
func checkPassword(password []byte) error {
	switch {
	case len(password) == 0:
		return errors.New("the password is empty")
	case len(password) > 65535:
		return errors.New("the password is longer than 65535 bytes")
	}
	return nil
}

// Import takes the users of another file over, as they are hashed there. Users who are here already are an error unless replace is set; then
// nothing has changed. It returns how many were taken over.
func (e *Editor) Import(from *Editor, replace bool) (int, error) {
	lines, n := slices.Clone(e.lines), 0
	for i, line := range from.lines {
		if textfile.Comment(line) {
			continue
		}
		name, hash, err := parseLine(line)
		if err != nil {
			return 0, &textfile.Error{Path: from.file.Path, Line: i + 1, Text: err.Error()}
		}
		line = name + ":" + hash.String()
		at := e.find(name)
		switch {
		case at >= 0 && !replace:
			return 0, &textfile.Error{Path: from.file.Path, Line: i + 1, Text: fmt.Sprintf("there is a user %q already; --replace takes the imported one", name)}
		case at >= 0:
			lines[at] = line
		default:
			lines = append(lines, line)
		}
		n++
	}
	e.lines = lines
	return n, nil
}

// Remove takes a user out. The error is ErrNoUser if there is none.
func (e *Editor) Remove(name string) error {
	i := e.find(name)
	if i < 0 {
		return ErrNoUser
	}
	e.lines = slices.Delete(e.lines, i, i+1)
	return nil
}

// Write writes the file, atomically; a new one with mode 0600.
func (e *Editor) Write() error { return e.file.Write(e.lines) }

// HashPlain is an editor for a file with passwords in plain text, "name:password" by line, that has them hashed. Those that are
// hashed already stay. It returns how many were hashed.
func HashPlain(path string, s Scheme) (*Editor, int, error) {
	f, err := textfile.Read(path)
	if err != nil {
		return nil, 0, err
	}
	e, n := &Editor{f, slices.Clone(f.Lines)}, 0
	for i, line := range f.Lines {
		if textfile.Comment(line) {
			continue
		}
		name, rest, _ := strings.Cut(line, ":")
		if _, err := ParseHash(strings.TrimSpace(rest)); err == nil {
			continue
		}
		hash, err := hashLine(strings.TrimSpace(name), rest, s)
		if err != nil {
			return nil, 0, &textfile.Error{Path: path, Line: i + 1, Text: err.Error()}
		}
		e.lines[i] = hash
		n++
	}
	if _, err := parseUsers(&textfile.File{Path: path, Lines: e.lines}); err != nil {
		return nil, 0, err
	}
	return e, n, nil
}

func hashLine(name, password string, s Scheme) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	if err := checkPassword([]byte(password)); err != nil {
		return "", err
	}
	hash, err := NewHash(s, []byte(password))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s:%s", name, hash), nil
}
