// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package file

import "github.com/noctule/noctule/plugins/internal/password"

// Scheme is a way to hash a password.
type Scheme = password.Scheme

// Schemes. All are read; NewHash writes all but Bcrypt.
const (
	Argon2id     = password.Argon2id
	PBKDF2SHA512 = password.PBKDF2SHA512
	SaltedSHA512 = password.SaltedSHA512
	Bcrypt       = password.Bcrypt
)

// Hash is a password's hash, parsed. It is immutable.
type Hash = password.Hash

// NewHash hashes a password with a new salt, at today's cost.
func NewHash(s Scheme, pw []byte) (*Hash, error) { return password.NewHash(s, pw) }

// ParseHash reads a hash as it stands in files. It is strict: what it takes, Verify can check within the limits of cost.
func ParseHash(s string) (*Hash, error) { return password.ParseHash(s) }
