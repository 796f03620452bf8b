// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package password reads, makes and checks hashes of passwords, of all kinds that users files and databases have.
//
// A Hash is immutable and may be used from any goroutine. To check one costs what it says, within limits, so that no stored line can stop
// the broker.
package password

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// Scheme is a way to hash a password.
type Scheme byte

// Schemes. All but Plain are read by ParseHash; NewHash writes all but Bcrypt and Plain.
const (
	Argon2id     Scheme = iota // $argon2id$v=19$m=19456,t=2,p=1$salt$hash
	PBKDF2SHA512               // $7$iterations$salt$hash, Mosquitto 2.0
	SaltedSHA512               // $6$salt$hash, Mosquitto up to 1.6; fast to guess
	Bcrypt                     // $2b$12$..., for files made by others
	Plain                      // the password itself; only for tables whose owner says that they hold such
)

func (s Scheme) String() string {
	return [...]string{"argon2id", "sha512-pbkdf2", "sha512", "bcrypt", "plain"}[s]
}

// The cost of new hashes. Argon2id: OWASP's second choice, 19 MiB and two passes, about 25 ms on one core. PBKDF2: 210 000
// rounds of SHA-512, OWASP's figure; Mosquitto's own default of 101 is read and not written.
const (
	argonMemory      = 19 * 1024 // KiB
	argonPasses      = 2
	argonLanes       = 1
	pbkdf2Iterations = 210_000

	saltBytes          = 16
	mosquittoSaltBytes = 12 // of $6$ and $7$: Mosquitto 2.0 takes no other length
	hashBytes          = 32
)

// Limits of what a file may ask for, so that one line cannot stop the broker.
const (
	maxArgonMemory = 1 << 20 // KiB
	maxArgonPasses = 100
	maxIterations  = 10_000_000
	maxBcryptCost  = 16
	maxHashBytes   = 128
)

// Hash is a password's hash, parsed. It is immutable.
type Hash struct {
	scheme Scheme
	salt   []byte
	sum    []byte // bcrypt: the whole string

	iterations uint32 // PBKDF2: rounds; argon2id: passes
	memory     uint32 // KiB
	lanes      uint8

	fits fits
}

// fits says whether any password can be the hashed one.
type fits bool

const fitsNot fits = true

// NewPlain is the "hash" of a password that is stored as it is.
func NewPlain(password string) *Hash { return &Hash{scheme: Plain, sum: []byte(password)} }

// Scheme says how it was made.
func (h *Hash) Scheme() Scheme { return h.scheme }

// NewHash hashes a password with a new salt, at today's cost.
func NewHash(s Scheme, password []byte) (*Hash, error) {
	h := &Hash{scheme: s}
	switch s {
	case Argon2id:
		h.salt, h.sum = randomBytes(saltBytes), make([]byte, hashBytes)
		h.memory, h.iterations, h.lanes = argonMemory, argonPasses, argonLanes
	case PBKDF2SHA512:
		h.salt, h.sum = randomBytes(mosquittoSaltBytes), make([]byte, sha512.Size)
		h.iterations = pbkdf2Iterations
	case SaltedSHA512:
		h.salt, h.sum = randomBytes(mosquittoSaltBytes), make([]byte, sha512.Size)
	default:
		return nil, fmt.Errorf("passwords are not written as %v", s)
	}
	sum, err := h.compute(password)
	if err != nil {
		return nil, err
	}
	h.sum = sum
	return h, nil
}

// NewArgon2id hashes a password at a cost of one's own, in KiB, passes and lanes: one that is cheap, for tests.
func NewArgon2id(memory, passes uint32, lanes uint8, password []byte) *Hash {
	h := &Hash{scheme: Argon2id, memory: memory, iterations: passes, lanes: lanes, salt: randomBytes(saltBytes), sum: make([]byte, hashBytes)}
	h.sum, _ = h.compute(password) // argon2id has no errors
	return h
}

// Weak reports whether a hash is quick to guess: plain, salted SHA-512, or as few rounds as Mosquitto's default.
func (h *Hash) Weak() bool {
	return h.scheme == Plain || h.scheme == SaltedSHA512 || h.scheme == PBKDF2SHA512 && h.iterations < 10_000
}

// Like is a hash that costs as much to check as h, and that no password fits: for names that are unknown. nil has the cost of new hashes.
func Like(h *Hash) *Hash {
	if h == nil {
		h = &Hash{scheme: Argon2id, memory: argonMemory, iterations: argonPasses, lanes: argonLanes, sum: make([]byte, hashBytes)}
	}
	x := *h
	if h.scheme == Bcrypt {
		x.fits = fitsNot // its sum holds the cost, which has to stay
		return &x
	}
	x.salt, x.sum, x.fits = randomBytes(saltBytes), randomBytes(max(len(h.sum), hashBytes)), fitsNot
	return &x
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

// compute hashes a password with h's salt and cost. Not for bcrypt, which has its salt inside.
func (h *Hash) compute(password []byte) ([]byte, error) {
	switch h.scheme {
	case Argon2id:
		return argon2.IDKey(password, h.salt, h.iterations, h.memory, h.lanes, uint32(len(h.sum))), nil
	case PBKDF2SHA512:
		return pbkdf2.Key(sha512.New, string(password), h.salt, int(h.iterations), len(h.sum))
	default:
		d := sha512.New()
		d.Write(password)
		d.Write(h.salt)
		return d.Sum(nil), nil
	}
}

// Verify reports whether the password is the hashed one. It takes the same time whatever the answer.
func (h *Hash) Verify(password []byte) bool {
	switch h.scheme {
	case Bcrypt:
		return bcrypt.CompareHashAndPassword(h.sum, password) == nil && h.fits != fitsNot
	case Plain:
		a, b := sha512.Sum512(h.sum), sha512.Sum512(password) // lengths take no time of their own
		return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && len(h.sum) > 0 && h.fits != fitsNot
	}
	sum, err := h.compute(password)
	return err == nil && subtle.ConstantTimeCompare(sum, h.sum) == 1 && h.fits != fitsNot
}

// String is the hash as it stands in files.
func (h *Hash) String() string {
	std, raw := base64.StdEncoding, base64.RawStdEncoding
	switch h.scheme {
	case Argon2id:
		return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.iterations, h.lanes,
			raw.EncodeToString(h.salt), raw.EncodeToString(h.sum))
	case PBKDF2SHA512:
		return fmt.Sprintf("$7$%d$%s$%s", h.iterations, std.EncodeToString(h.salt), std.EncodeToString(h.sum))
	case SaltedSHA512:
		return fmt.Sprintf("$6$%s$%s", std.EncodeToString(h.salt), std.EncodeToString(h.sum))
	default:
		return string(h.sum)
	}
}

var (
	errPlain   = errors.New("the password is not hashed; run `noctule passwd -U` on the file")
	errUnknown = errors.New("the password's hash is of no known kind ($argon2id$, $7$, $6$, $2b$); set the password again")
	errDamaged = errors.New("the password's hash is damaged; set the password again")
)

// ParseHash reads a hash as it stands in files. It is strict: what it takes, Verify can check within the limits of cost.
func ParseHash(s string) (*Hash, error) {
	if !strings.HasPrefix(s, "$") {
		return nil, errPlain
	}
	parts := strings.Split(s[1:], "$")
	switch parts[0] {
	case "argon2id":
		return parseArgon2id(parts[1:])
	case "7":
		return parsePBKDF2(parts[1:])
	case "6":
		if len(parts) != 3 {
			return nil, errDamaged
		}
		return decoded(&Hash{scheme: SaltedSHA512}, base64.StdEncoding, parts[1], parts[2])
	case "2a", "2b", "2y":
		return parseBcrypt(s)
	}
	return nil, errUnknown
}

func parseArgon2id(parts []string) (*Hash, error) {
	if len(parts) != 4 || parts[0] != "v="+strconv.Itoa(argon2.Version) {
		return nil, errDamaged
	}
	m, rest, _ := strings.Cut(parts[1], ",")
	t, p, _ := strings.Cut(rest, ",")
	h := &Hash{scheme: Argon2id}
	var ok [3]bool
	h.memory, ok[0] = number(m, "m=", 8, maxArgonMemory)
	h.iterations, ok[1] = number(t, "t=", 1, maxArgonPasses)
	lanes, ok2 := number(p, "p=", 1, 255)
	h.lanes, ok[2] = uint8(lanes), ok2
	if ok != [3]bool{true, true, true} {
		return nil, errDamaged
	}
	return decoded(h, base64.RawStdEncoding, parts[2], parts[3])
}

func parsePBKDF2(parts []string) (*Hash, error) {
	if len(parts) != 3 {
		return nil, errDamaged
	}
	n, ok := number(parts[0], "", 1, maxIterations)
	if !ok {
		return nil, errDamaged
	}
	return decoded(&Hash{scheme: PBKDF2SHA512, iterations: n}, base64.StdEncoding, parts[1], parts[2])
}

func parseBcrypt(s string) (*Hash, error) {
	cost, err := bcrypt.Cost([]byte(s))
	if err != nil || cost > maxBcryptCost || len(s) != 60 {
		return nil, errDamaged
	}
	return &Hash{scheme: Bcrypt, sum: []byte(s)}, nil
}

// decoded completes h by salt and sum. SHA-512 sums have their full length, others at least 16 bytes.
func decoded(h *Hash, enc *base64.Encoding, salt, sum string) (*Hash, error) {
	var err, err2 error
	h.salt, err = enc.Strict().DecodeString(salt)
	h.sum, err2 = enc.Strict().DecodeString(sum)
	n := len(h.sum)
	switch {
	case err != nil, err2 != nil, len(h.salt) == 0, len(h.salt) > maxHashBytes, n < 16, n > maxHashBytes:
		return nil, errDamaged
	case h.scheme != Argon2id && n != sha512.Size:
		return nil, errDamaged
	}
	return h, nil
}

// number reads a decimal number after prefix.
func number(s, prefix string, least, most uint32) (uint32, bool) {
	digits, ok := strings.CutPrefix(s, prefix)
	if !ok || digits == "" || digits[0] < '0' || digits[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), err == nil && uint32(n) >= least && uint32(n) <= most
}
