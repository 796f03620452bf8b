// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package password

import (
	"strings"
	"testing"
)

// golden are hashes made by others, with their passwords.
var golden = []struct {
	name, hash, password string
	scheme               Scheme
}{
	{"mosquitto_passwd 2.0.11 -H sha512",
		"$6$udmyIwOjgiewR/t3$uLm1UPzsmUTgu/xLeGWsB9MJZH9AJdbsUveb/mQs9QJ1V2JaU+sPAY5A9x1Ha8/JakTvhbEuolONl07hxeRuIw==",
		"wonder", SaltedSHA512},
	{"mosquitto_passwd 2.0.11 -H sha512-pbkdf2",
		"$7$101$LzETBtCv7g+DoQbW$eLEQqMEi340W1i7ShMeF4dNykgyhjJHILOZRYKrejIo9cK+SYLz4anHYHyOBNh7TBHbzoyjuuTpou66zJfVFrw==",
		"builder", PBKDF2SHA512},
	{"the reference implementation of Argon2, which Mosquitto 2.1 uses",
		"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"password", Argon2id},
	{"OpenBSD's bcrypt", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U", Bcrypt},
}

func TestHashesOfOthers(t *testing.T) {
	for _, g := range golden {
		h, err := ParseHash(g.hash)
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
			continue
		}
		if h.Scheme() != g.scheme || h.String() != g.hash {
			t.Errorf("%s: read as %v %s", g.name, h.Scheme(), h)
		}
		if !h.Verify([]byte(g.password)) {
			t.Errorf("%s: the right password is refused", g.name)
		}
		for _, wrong := range []string{"", g.password + "x", strings.ToUpper(g.password) + "!"} {
			if h.Verify([]byte(wrong)) {
				t.Errorf("%s: password %q is taken", g.name, wrong)
			}
		}
	}
}

func TestNewHash(t *testing.T) {
	for _, s := range []Scheme{Argon2id, PBKDF2SHA512, SaltedSHA512} {
		h, err := NewHash(s, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseHash(h.String())
		if err != nil || again.String() != h.String() {
			t.Errorf("%v: %s is read as %v, %v", s, h, again, err)
			continue
		}
		if !again.Verify([]byte("secret")) || again.Verify([]byte("Secret")) {
			t.Errorf("%v: not verified", s)
		}
		other, err := NewHash(s, []byte("secret"))
		if err != nil || other.String() == h.String() {
			t.Errorf("%v: twice the same salt", s)
		}
	}
	if _, err := NewHash(Bcrypt, []byte("secret")); err == nil {
		t.Error("bcrypt was written")
	}
}

func TestNewHashCost(t *testing.T) {
	h, err := NewHash(Argon2id, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(h.String(), "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("written: %s", h)
	}
}

// Mosquitto 2.0 refuses hashes with salts of another length.
func TestMosquittoTakesOurSalts(t *testing.T) {
	for _, s := range []Scheme{PBKDF2SHA512, SaltedSHA512} {
		h, err := NewHash(s, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		if len(h.salt) != 12 || len(h.sum) != 64 {
			t.Errorf("%v: salt of %d bytes, sum of %d", s, len(h.salt), len(h.sum))
		}
	}
}

func TestParseHashRefuses(t *testing.T) {
	salt, sum := "c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	for _, s := range []string{
		"", "secret", "$", "$$", "$1$abc$def", "$5$abc$def",
		"$6$", "$6$$", "$6$c2FsdA==", "$6$c2FsdA==$c2hvcnQ=", "$6$c2FsdA==$c2hvcnQ=$", "$6$!$!",
		strings.Replace(golden[0].hash, "udmy", "", 1) + "$",
		strings.TrimSuffix(golden[0].hash, "=="),
		strings.Replace(golden[0].hash, "udmyIwOjgiewR/t3", "", 1),
		strings.Replace(golden[1].hash, "101", "0", 1),
		strings.Replace(golden[1].hash, "101", "-1", 1),
		strings.Replace(golden[1].hash, "101", "+101", 1),
		strings.Replace(golden[1].hash, "101", "4294967397", 1),
		strings.Replace(golden[1].hash, "101", "99999999", 1),
		"$7$101$c2FsdA==",
		"$argon2id$v=16$m=65536,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$m=65536,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=4294967295,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=65536,t=0,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=65536,t=1000,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=65536,t=2,p=0$" + salt + "$" + sum,
		"$argon2id$v=19$m=65536,t=2,p=256$" + salt + "$" + sum,
		"$argon2id$v=19$t=2,m=65536,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=65536,t=2,p=1$" + salt + "$",
		"$argon2id$v=19$m=65536,t=2,p=1$$" + sum,
		"$argon2i$v=19$m=65536,t=2,p=1$" + salt + "$" + sum,
		"$2a$31" + golden[3].hash[6:], "$2a$05$CCCC", golden[3].hash + "x", "$2x" + golden[3].hash[3:],
	} {
		if h, err := ParseHash(s); err == nil {
			t.Errorf("%q is read as %v", s, h)
		}
	}
}

// What Like makes costs the same and fits nothing.
func TestLike(t *testing.T) {
	plain := NewPlain("secret")
	all := []*Hash{nil, plain, NewArgon2id(8, 1, 1, []byte("secret"))}
	for _, g := range golden {
		h, err := ParseHash(g.hash)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h)
	}
	for _, h := range all {
		x := Like(h)
		if h != nil && (x.scheme != h.scheme || x.iterations != h.iterations || x.memory != h.memory || x.lanes != h.lanes) {
			t.Errorf("%v: costs otherwise", h.scheme)
		}
		for _, pw := range []string{"", "secret", "wonder", "builder", "password", "U*U"} {
			if x.Verify([]byte(pw)) {
				t.Errorf("%v: %q fits", x.scheme, pw)
			}
		}
	}
	if !plain.Verify([]byte("secret")) || plain.Verify([]byte("secre")) || NewPlain("").Verify(nil) {
		t.Error("a plain password is not compared as it is, or an empty one is taken")
	}
}

func BenchmarkArgon2id(b *testing.B) {
	h, err := NewHash(Argon2id, []byte("secret"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		h.Verify([]byte("wrong"))
	}
}
