// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// algorithms are all that tokens may be signed by.
var algorithms = []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// Bounds of keys.
const (
	minSecret  = 32 // bytes: RFC 7518, section 3.2, for HS256
	minRSA     = 2048
	maxRSA     = 8192
	maxKeys    = 100 // of a set or file
	maxKeyFile = 1 << 20
)

// key verifies tokens, by the algorithms of its kind alone.
type key struct {
	id         string // empty: for tokens of any
	algorithms []string
	public     any // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey or the []byte of a secret
}

// kindOf is the algorithms that a public key or secret serves for; none if it is too weak or of no use.
func kindOf(public any) ([]string, error) {
	switch k := public.(type) {
	case []byte:
		if len(k) < minSecret {
			return nil, fmt.Errorf("the secret has %d bytes; HS256 wants %d at least: make one with openssl rand -base64 48", len(k), minSecret)
		}
		n := 1 // as many as the secret is long enough for: RFC 7518, section 3.2
		if len(k) >= 48 {
			n = 2
		}
		if len(k) >= 64 {
			n = 3
		}
		return algorithms[:n:n], nil
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA || n > maxRSA {
			return nil, fmt.Errorf("the RSA key has %d bits; it must have %d to %d", n, minRSA, maxRSA)
		}
		return algorithms[3:9:9], nil
	case *ecdsa.PublicKey:
		name := k.Curve.Params().Name
		if alg := map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[name]; alg != "" {
			return []string{alg}, nil
		}
		return nil, fmt.Errorf("the curve %s is not used for tokens", name)
	case ed25519.PublicKey:
		return []string{"EdDSA"}, nil
	}
	return nil, fmt.Errorf("a key of type %T is not used for tokens", public)
}

// newKey binds a key to the algorithms of its kind that are wanted; all if none are named.
func newKey(id string, public any, wanted []string) (*key, error) {
	kind, err := kindOf(public)
	if err != nil {
		return nil, err
	}
	if len(wanted) == 0 {
		return &key{id, kind, public}, nil
	}
	for _, w := range wanted {
		if !slices.Contains(kind, w) {
			return nil, fmt.Errorf("the key does not serve for %.16q; it does for %s", w, strings.Join(kind, ", "))
		}
	}
	return &key{id, wanted, public}, nil
}

// check finds what is wrong without a look at files.
func (o *KeyOptions) check() error {
	n := 0
	for _, s := range []string{o.File, o.SecretFile, o.Secret} {
		if s != "" {
			n++
		}
	}
	if n != 1 {
		return errors.New("a key has one of file, secret_file and secret")
	}
	for _, a := range o.Algorithms {
		if !slices.Contains(algorithms, a) {
			return fmt.Errorf("algorithm %q is not known; there is %s", a, strings.Join(algorithms, ", "))
		}
	}
	if o.Secret != "" {
		_, err := o.secret([]byte(o.Secret))
		return err
	}
	return nil
}

// path is the file that the key stands in, empty if in none.
func (o *KeyOptions) path() string { return o.File + o.SecretFile }

// load reads the key, or the keys of the file.
func (o *KeyOptions) load() ([]*key, error) {
	if o.Secret != "" {
		k, err := o.secret([]byte(o.Secret))
		return []*key{k}, err
	}
	text, err := readFile(o.path())
	if err != nil {
		return nil, err
	}
	if o.SecretFile != "" {
		s := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
		k, err := o.secret([]byte(s))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.SecretFile, err)
		}
		return []*key{k}, nil
	}
	keys, err := o.parsePEM(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.File, err)
	}
	return keys, nil
}

// secret makes a key of a secret. One that is a key in PEM is a mistake that would let everybody in who has that public key.
func (o *KeyOptions) secret(s []byte) (*key, error) {
	if block, _ := pem.Decode(s); block != nil {
		return nil, errors.New("it is a key in PEM, not a secret; name it under file")
	}
	if o.Base64 {
		text := strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(string(s)), "=")
		b, err := base64.RawStdEncoding.Strict().DecodeString(text)
		if err != nil {
			return nil, errors.New("the secret is not base64")
		}
		s = b
	}
	return newKey(o.ID, s, o.Algorithms)
}

func (o *KeyOptions) parsePEM(text []byte) ([]*key, error) {
	var keys []*key
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		public, err := publicOf(block)
		if err != nil {
			return nil, err
		}
		k, err := newKey(o.ID, public, o.Algorithms)
		if err != nil {
			return nil, err
		}
		if keys = append(keys, k); len(keys) > maxKeys {
			return nil, fmt.Errorf("there are more than %d keys", maxKeys)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no public key in PEM; a secret is named under secret_file")
	}
	return keys, nil
}

func publicOf(b *pem.Block) (any, error) {
	switch {
	case b.Type == "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(b.Bytes)
	case b.Type == "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(b.Bytes)
	case b.Type == "CERTIFICATE":
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		return c.PublicKey, nil
	case strings.HasSuffix(b.Type, "PRIVATE KEY"):
		return nil, errors.New("there is a private key; only who makes tokens needs it: name the public key")
	}
	return nil, fmt.Errorf("a PEM block of type %.32q is not understood", b.Type)
}

// readFile reads a file of keys whole.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(b) > maxKeyFile {
		err = fmt.Errorf("%s: it is larger than %d bytes", path, maxKeyFile)
	}
	return b, err
}
