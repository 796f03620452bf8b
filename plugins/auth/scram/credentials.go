// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package scram

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"
	"github.com/xdg-go/stringprep"

	"github.com/noctule/noctule/plugins/internal/textfile"
)

// Method is an authentication method.
type Method byte

// Methods.
const (
	SHA256 Method = iota
	SHA512

	methods // how many
)

func (m Method) String() string { return [...]string{"SCRAM-SHA-256", "SCRAM-SHA-512"}[m] }

// plugin is the path of the plug-in for the method.
func (m Method) plugin() string { return [...]string{NameSHA256, NameSHA512}[m] }

func (m Method) hash() scram.HashGeneratorFcn {
	return [...]scram.HashGeneratorFcn{scram.SHA256, scram.SHA512}[m]
}

// size is how many bytes keys have.
func (m Method) size() int { return [...]int{32, 64}[m] }

// ParseMethod reads a method's name.
func ParseMethod(s string) (Method, error) {
	for m := range methods {
		if s == m.String() {
			return m, nil
		}
	}
	return 0, fmt.Errorf("the method is SCRAM-SHA-256 or SCRAM-SHA-512, not %q", s)
}

// Limits of iterations: the least of RFC 7677, and what a small client can bear.
const (
	MinIterations = 4096
	MaxIterations = 10_000_000
)

const saltBytes = 16

// credential is a line of the file, or what stands in for one.
type credential struct {
	name   string
	rule   string // "scram.txt:12"
	stored scram.StoredCredentials
}

// credentials is what a file says. Immutable.
type credentials struct {
	file   string // its name, for rules
	secret []byte // makes the salts of names that are unknown
	of     [methods]struct {
		list   []*credential
		byName map[string]*credential
	}
}

// secretLine begins the line with the secret that the salts of unknown names are made of. As it stands in the file, they
// stay the same over a restart, as those of known names do. No user has an empty name.
const secretLine = ":secret$"

// parseCredentials reads all lines, or none.
func parseCredentials(f *textfile.File) (*credentials, error) {
	c := &credentials{file: f.Base()}
	for m := range methods {
		c.of[m].byName = map[string]*credential{}
	}
	for i, line := range f.Lines {
		if textfile.Comment(line) {
			continue
		}
		wrong := func(err error) error { return &textfile.Error{Path: f.Path, Line: i + 1, Text: err.Error()} }
		if text, ok := strings.CutPrefix(line, secretLine); ok {
			if err := c.setSecret(text); err != nil {
				return nil, wrong(err)
			}
			continue
		}
		x, m, err := parseLine(line)
		if err != nil {
			return nil, wrong(err)
		}
		x.rule = fmt.Sprintf("%s:%d", c.file, i+1)
		if before := c.of[m].byName[x.name]; before != nil {
			return nil, wrong(fmt.Errorf("user %q has %v credentials in %s already; remove one of the two lines", x.name, m, before.rule))
		}
		c.of[m].byName[x.name] = x
		c.of[m].list = append(c.of[m].list, x)
	}
	if c.secret == nil {
		c.secret = newSecret()
	}
	return c, nil
}

func newSecret() []byte {
	b := make([]byte, sha256.Size)
	rand.Read(b) // never fails
	return b
}

func (c *credentials) setSecret(text string) error {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	switch {
	case err != nil || len(b) < 16:
		return errors.New("the secret is damaged; remove the line")
	case c.secret != nil:
		return errors.New("there is a second secret; remove the line")
	}
	c.secret = b
	return nil
}

var errLine = errors.New("a line is name:method$iterations:salt$StoredKey:ServerKey; write one with `noctule user add --scram`")

// parseLine takes a line apart. The part after the name is as PostgreSQL and RFC 5803 write it.
func parseLine(line string) (*credential, Method, error) {
	name, rest, _ := strings.Cut(line, ":")
	parts := strings.Split(rest, "$")
	if len(parts) != 3 {
		return nil, 0, errLine
	}
	m, err := ParseMethod(parts[0])
	if err != nil {
		return nil, 0, err
	}
	if err := checkName(name); err != nil {
		return nil, 0, err
	}
	n, salt, ok := strings.Cut(parts[1], ":")
	iterations, err := strconv.Atoi(n)
	if !ok || err != nil || iterations < MinIterations || iterations > MaxIterations {
		return nil, 0, fmt.Errorf("iterations are %d to %d", MinIterations, MaxIterations)
	}
	storedKey, serverKey, _ := strings.Cut(parts[2], ":")
	x := &credential{name: name}
	x.stored.Iters = iterations
	rawSalt, err1 := base64.StdEncoding.Strict().DecodeString(salt)
	var err2, err3 error
	x.stored.StoredKey, err2 = base64.StdEncoding.Strict().DecodeString(storedKey)
	x.stored.ServerKey, err3 = base64.StdEncoding.Strict().DecodeString(serverKey)
	x.stored.Salt = string(rawSalt)
	switch {
	case err1 != nil, err2 != nil, err3 != nil, len(rawSalt) == 0, len(rawSalt) > 64,
		len(x.stored.StoredKey) != m.size(), len(x.stored.ServerKey) != m.size():
		return nil, 0, errors.New("the credentials are damaged; set the password again")
	}
	return x, m, nil
}

// checkName says what keeps a name from being a user's: it must be as SASLprep leaves it, for clients send it so.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("the user name is empty")
	case !textfile.Printable(name), strings.Contains(name, ":"), strings.HasPrefix(name, "#"), strings.TrimSpace(name) != name:
		return fmt.Errorf("the user name %q has a colon or control character, begins with #, or begins or ends with a blank", name)
	case prepare(name) != name:
		return fmt.Errorf("the user name %q is not normalised; write it as %q", name, prepare(name))
	}
	return nil
}

// prepare is the name by SASLprep (RFC 4013), or as it is where that refuses it, as some clients send it then.
func prepare(name string) string {
	if p, err := stringprep.SASLprep.Prepare(name); err == nil {
		return p
	}
	return name
}

// find is the credentials for a name, or ones that nobody can prove: salt and iterations look like a user's and are
// the same at each try, so that they do not tell who exists.
func (c *credentials) find(m Method, name string) (_ *credential, known bool) {
	name = prepare(name)
	if x := c.of[m].byName[name]; x != nil {
		return x, true
	}
	h := hmac.New(sha256.New, c.secret)
	h.Write([]byte(m.String() + ":" + name))
	d := h.Sum(nil)
	fake := &credential{name: name}
	fake.stored.Salt, fake.stored.Iters = string(d[:saltBytes]), DefaultIterations
	if list := c.of[m].list; len(list) > 0 {
		like := list[binary.LittleEndian.Uint64(d[saltBytes:])%uint64(len(list))]
		fake.stored.Iters = like.stored.Iters
	}
	fake.stored.StoredKey, fake.stored.ServerKey = make([]byte, m.size()), make([]byte, m.size())
	rand.Read(fake.stored.StoredKey) // no client knows what hashes to it
	return fake, false
}
