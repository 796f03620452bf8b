// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// jwk is a JSON Web Key (RFC 7517, RFC 7518, RFC 8037).
type jwk struct {
	Kty string   `json:"kty"`
	Use string   `json:"use"`
	Ops []string `json:"key_ops"`
	Alg string   `json:"alg"`
	Kid string   `json:"kid"`
	N   string   `json:"n"`
	E   string   `json:"e"`
	Crv string   `json:"crv"`
	X   string   `json:"x"`
	Y   string   `json:"y"`
	K   string   `json:"k"`
}

// parseSet reads a JSON Web Key Set. Keys that are for something else, too weak or not understood are left out, with the first reason in
// left; a set with no key of use is an error. Secrets are read from files only.
func parseSet(text []byte, secrets bool) (keys []*key, left error, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, nil, errors.New("it is no JSON Web Key Set")
	}
	if len(set.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("the set has %d keys; the most is %d", len(set.Keys), maxKeys)
	}
	for _, raw := range set.Keys {
		k, err := parseKey(raw, secrets)
		if err != nil {
			if left == nil {
				left = err
			}
			continue
		}
		keys = append(keys, k)
	}
	switch {
	case len(keys) > 0:
		return keys, left, nil
	case left != nil:
		return nil, left, fmt.Errorf("the set has no key of use: %w", left)
	}
	return nil, nil, errors.New("the set has no keys")
}

func parseKey(raw []byte, secrets bool) (*key, error) {
	var j jwk
	if err := json.Unmarshal(raw, &j); err != nil {
		return nil, errors.New("a key is not understood")
	}
	switch {
	case j.Use != "" && j.Use != "sig":
		return nil, fmt.Errorf("key %.64q is not for signatures", j.Kid)
	case len(j.Ops) > 0 && !slices.Contains(j.Ops, "verify"):
		return nil, fmt.Errorf("key %.64q is not for verifying", j.Kid)
	case j.Kty == "oct" && !secrets:
		return nil, fmt.Errorf("key %.64q is a secret, which an address does not tell", j.Kid)
	}
	public, err := j.public()
	if err != nil {
		return nil, fmt.Errorf("key %.64q: %w", j.Kid, err)
	}
	var wanted []string
	if j.Alg != "" {
		wanted = []string{j.Alg}
	}
	k, err := newKey(j.Kid, public, wanted)
	if err != nil {
		return nil, fmt.Errorf("key %.64q: %w", j.Kid, err)
	}
	return k, nil
}

func (j *jwk) public() (any, error) {
	switch j.Kty {
	case "RSA":
		return j.rsa()
	case "EC":
		return j.ec()
	case "OKP":
		x, err := decode(j.X)
		if err != nil || j.Crv != "Ed25519" || len(x) != ed25519.PublicKeySize {
			return nil, errors.New("it is no Ed25519 key")
		}
		return ed25519.PublicKey(x), nil
	case "oct":
		k, err := decode(j.K)
		if err != nil {
			return nil, errors.New("the secret is damaged")
		}
		return k, nil
	}
	return nil, fmt.Errorf("kty %.16q is not used for tokens", j.Kty)
}

func (j *jwk) rsa() (*rsa.PublicKey, error) {
	n, err1 := decode(j.N)
	e, err2 := decode(j.E)
	if err1 != nil || err2 != nil || len(n) > maxRSA/8+1 || len(e) == 0 || len(e) > 4 {
		return nil, errors.New("the RSA key is damaged")
	}
	k := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if k.E < 3 || k.E%2 == 0 || k.E > 1<<31-1 || k.N.Bit(0) == 0 {
		return nil, errors.New("the RSA key is damaged")
	}
	return k, nil
}

func (j *jwk) ec() (*ecdsa.PublicKey, error) {
	curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[j.Crv]
	if curve == nil {
		return nil, fmt.Errorf("the curve %.16q is not used for tokens", j.Crv)
	}
	x, err1 := decode(j.X)
	y, err2 := decode(j.Y)
	size := (curve.Params().BitSize + 7) / 8
	if err1 != nil || err2 != nil || len(x) != size || len(y) != size { // RFC 7518, section 6.2.1.2
		return nil, errors.New("the key is no point of its curve")
	}
	k, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, errors.New("the key is no point of its curve")
	}
	return k, nil
}

func decode(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }
