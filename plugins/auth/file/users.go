// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/noctule/noctule/plugins/internal/password"
	"github.com/noctule/noctule/plugins/internal/textfile"
)

// user is a line of the file.
type user struct {
	name string
	hash *Hash
	rule string // "users.txt:12"
}

// users is what a file says, with the logins that succeeded by it. Immutable but for recent.
type users struct {
	name   string // the file's, for rules
	list   []*user
	lines  []string // as they were read
	byName map[string]*user
	weak   int // how many have hashes that are quick to guess
	recent *recent
}

// parseUsers reads all lines, or none.
func parseUsers(f *textfile.File) (*users, error) {
	u := &users{name: f.Base(), lines: f.Lines, byName: map[string]*user{}, recent: newRecent()}
	for i, line := range f.Lines {
		if textfile.Comment(line) {
			continue
		}
		wrong := func(text string) error { return &textfile.Error{Path: f.Path, Line: i + 1, Text: text} }
		name, hash, err := parseLine(line)
		if err != nil {
			return nil, wrong(err.Error())
		}
		if before := u.byName[name]; before != nil {
			return nil, wrong(fmt.Sprintf("user %q stands in %s already; remove one of the two lines", name, before.rule))
		}
		x := &user{name: name, hash: hash, rule: fmt.Sprintf("%s:%d", u.name, i+1)}
		u.list = append(u.list, x)
		u.byName[name] = x
		if hash.Weak() {
			u.weak++
		}
	}
	return u, nil
}

// parseLine takes "name:hash" apart. Blanks around both are dropped, as Mosquitto does.
func parseLine(line string) (string, *Hash, error) {
	name, rest, ok := strings.Cut(line, ":")
	name = strings.TrimSpace(name)
	if !ok || name == "" {
		return "", nil, fmt.Errorf("a line is name:hash; write one with `noctule user add`")
	}
	if err := CheckName(name); err != nil {
		return "", nil, err
	}
	hash, err := ParseHash(strings.TrimSpace(rest))
	return name, hash, err
}

// CheckName says what keeps a name from being a user's in a file.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the user name is empty")
	case len(name) > 65535:
		return fmt.Errorf("the user name is longer than 65535 bytes") // [MQTT-1.5.4]
	case !textfile.Printable(name):
		return fmt.Errorf("the user name %q has a control character or is not UTF-8", name)
	case strings.Contains(name, ":"):
		return fmt.Errorf("the user name %q has a colon, which ends names in the file", name)
	case strings.HasPrefix(name, "#"):
		return fmt.Errorf("the user name %q begins with #, which begins comments in the file", name)
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("the user name %q begins or ends with a blank", name)
	}
	return nil
}

// standIn is the user whose hash is computed for a name that the file does not have, so that the time taken does not tell
// who exists. It is chosen by a keyed digest of the name: the same for each try, spread over the file's users,
// so that files with hashes of several kinds give nothing away either.
func (u *users) standIn(name string) *user {
	if len(u.list) == 0 {
		return nobody
	}
	d := u.recent.digest(name, nil)
	return u.list[binary.LittleEndian.Uint64(d[:])%uint64(len(u.list))]
}

// nobody stands in where there are no users at all.
var nobody = &user{hash: password.Like(nil)}
