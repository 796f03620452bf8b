// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package jwt

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/remote"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is what a broker offers: a clock that can be moved, and a log to read.
type host struct {
	now time.Time
	log *lockedLog
}

type lockedLog struct {
	sync.Mutex
	strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.Builder.Write(p)
}
func (l *lockedLog) text() string { l.Lock(); defer l.Unlock(); return l.Builder.String() }

func (h *host) Logger() *slog.Logger                       { return slog.New(slog.NewTextHandler(h.log, nil)) }
func (h *host) Now() time.Time                             { return h.now }
func (*host) Publish(context.Context, *mqtt.Message) error { return errors.ErrUnsupported }
func (*host) Disconnect(string, mqtt.ReasonCode) bool      { return false }

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const secret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

var (
	rsaKey, _ = rsa.GenerateKey(rand.Reader, 2048)
	ecKey, _  = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ec384, _  = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ec521, _  = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)

	edPublic, edKey, _ = ed25519.GenerateKey(rand.Reader)
)

func started(t *testing.T, o Options) (*Auth, *host) {
	t.Helper()
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{start, &lockedLog{}}
	if err := a.Start(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Stop(context.Background()) })
	return a, h
}

func withSecret() Options {
	o := Defaults()
	o.Keys = []KeyOptions{{Secret: secret}}
	return o
}

func sign(t *testing.T, method, kid string, key any, claims jwt.MapClaims) string {
	t.Helper()
	x := jwt.NewWithClaims(jwt.GetSigningMethod(method), claims)
	if kid != "" {
		x.Header["kid"] = kid
	}
	s, err := x.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// claims are good ones, changed as the test wants; a value of nil takes one away.
func claims(change jwt.MapClaims) jwt.MapClaims {
	c := jwt.MapClaims{"sub": "lamp", "exp": start.Add(time.Hour).Unix()}
	for k, v := range change {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

func login(token string) *plugin.Login {
	return &plugin.Login{Client: &plugin.Client{ID: "dev-7", Username: "claimed", Remote: &net.TCPAddr{}}, Password: []byte(token), HasUser: true, HasPass: true}
}

func want(t *testing.T, a *Auth, token string, v plugin.Verdict, rule string) plugin.Identity {
	t.Helper()
	d, id, err := a.Authenticate(t.Context(), login(token))
	if err != nil || d.Verdict != v || !strings.Contains(d.Rule, rule) {
		t.Errorf("%v by %q, %v; want %v by %q", d.Verdict, d.Rule, err, v, rule)
	}
	return id
}

func pemOf(t *testing.T, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func fileOf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAlgorithms(t *testing.T) {
	keys := map[string]struct {
		private, public any
	}{
		"HS256": {[]byte(secret), nil}, "HS384": {[]byte(secret), nil}, "HS512": {[]byte(secret), nil},
		"RS256": {rsaKey, rsaKey.Public()}, "RS384": {rsaKey, rsaKey.Public()}, "RS512": {rsaKey, rsaKey.Public()},
		"PS256": {rsaKey, rsaKey.Public()}, "PS384": {rsaKey, rsaKey.Public()}, "PS512": {rsaKey, rsaKey.Public()},
		"ES256": {ecKey, ecKey.Public()}, "ES384": {ec384, ec384.Public()}, "ES512": {ec521, ec521.Public()}, "EdDSA": {edKey, edPublic},
	}
	if len(keys) != len(algorithms) {
		t.Fatal("an algorithm is not tested")
	}
	for alg, k := range keys {
		o := Defaults()
		o.Keys = []KeyOptions{{Secret: secret}}
		if k.public != nil {
			o.Keys = []KeyOptions{{File: fileOf(t, pemOf(t, k.public))}}
		}
		a, _ := started(t, o)
		token := sign(t, alg, "", k.private, claims(nil))
		if id := want(t, a, token, plugin.Allow, Name); id.Username != "lamp" {
			t.Errorf("%s: user %q", alg, id.Username)
		}
		// One bit of the signature wrong, and the claims of another token.
		head, body, _ := strings.Cut(token, ".")
		body, sig, _ := strings.Cut(body, ".")
		raw, _ := base64.RawURLEncoding.DecodeString(sig)
		raw[len(raw)/2] ^= 1
		want(t, a, head+"."+body+"."+base64.RawURLEncoding.EncodeToString(raw), plugin.Deny, "signature")
		_, other, _ := strings.Cut(sign(t, alg, "", k.private, claims(jwt.MapClaims{"sub": "admin"})), ".")
		other, _, _ = strings.Cut(other, ".")
		want(t, a, head+"."+other+"."+sig, plugin.Deny, "signature")
		want(t, a, head+"."+body+".", plugin.Deny, "")
		for alg2, k2 := range keys { // no key serves for what is not of its kind
			if alg2[:2] != alg[:2] || alg2[:1] == "E" && alg2 != alg {
				if ok := alg2[:2] == "RS" && alg[:2] == "PS" || alg2[:2] == "PS" && alg[:2] == "RS"; !ok {
					want(t, a, sign(t, alg2, "", k2.private, claims(nil)), plugin.Deny, "no key")
				}
			}
		}
	}
}

// The classics: no algorithm, and a public key taken for a secret.
func TestAlgorithmConfusion(t *testing.T) {
	public := pemOf(t, rsaKey.Public())
	o := Defaults()
	o.Keys = []KeyOptions{{File: fileOf(t, public)}}
	a, _ := started(t, o)
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "", "HS999"} {
		head := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":%q,"typ":"JWT"}`, alg))
		body, _ := json.Marshal(claims(nil))
		for _, sig := range []string{"", "AAAA"} {
			want(t, a, head+"."+base64.RawURLEncoding.EncodeToString(body)+"."+sig, plugin.Deny, "")
		}
	}
	der, _ := x509.MarshalPKIXPublicKey(rsaKey.Public())
	for _, forged := range [][]byte{[]byte(public), []byte(strings.TrimSpace(public)), der, rsaKey.N.Bytes()} {
		want(t, a, sign(t, "HS256", "", forged, claims(nil)), plugin.Deny, "no key")
	}
	// Neither does a configuration make a secret of a public key.
	if _, err := New(func() Options { o := Defaults(); o.Keys = []KeyOptions{{Secret: public}}; return o }()); err == nil {
		t.Error("a public key was taken as a secret")
	}
	// Extensions that must be understood are not.
	x := jwt.NewWithClaims(jwt.SigningMethodRS256, claims(nil))
	x.Header["crit"], x.Header["b64"] = []string{"b64"}, false
	s, _ := x.SignedString(rsaKey)
	want(t, a, s, plugin.Deny, "crit")
}

func TestClaims(t *testing.T) {
	o := withSecret()
	o.Issuer, o.Audience = "https://id.example", []string{"mqtt", "iot"}
	o.Require = map[string]string{"dev.id": "${clientid}"}
	a, h := started(t, o)
	good := jwt.MapClaims{"iss": "https://id.example", "aud": []string{"x", "iot"}, "dev": map[string]any{"id": "dev-7"}}
	with := func(k string, v any) string {
		c := maps.Clone(good)
		c[k] = v
		return sign(t, "HS256", "", []byte(secret), claims(c))
	}
	id := want(t, a, with("groups", []string{"a", "b"}), plugin.Allow, "")
	if !reflect.DeepEqual(id.Groups, []string{"a", "b"}) || id.Grant.Expires != start.Add(time.Hour+30*time.Second).Local() && !id.Grant.Expires.Equal(start.Add(time.Hour+30*time.Second)) {
		t.Errorf("identity %+v, %+v", id, id.Grant)
	}
	if id.Grant.Claims["dev.id"] != "dev-7" || id.Grant.Claims["sub"] != "lamp" || id.Grant.Claims["iss"] == "" {
		t.Errorf("claims %v", id.Grant.Claims)
	}
	want(t, a, with("aud", "mqtt"), plugin.Allow, "")
	for _, c := range []struct {
		claim string
		value any
		rule  string
	}{
		{"iss", "https://evil.example", "issuer"}, {"iss", nil, "required"}, {"aud", "x", "audience"}, {"aud", nil, "required"},
		{"exp", nil, "required"}, {"exp", "soon", ""}, {"exp", start.Add(-31 * time.Second).Unix(), "expired"},
		{"nbf", start.Add(31 * time.Second).Unix(), "not valid yet"}, {"nbf", "x", ""},
		{"dev", map[string]any{"id": "dev-8"}, "dev.id"}, {"dev", "dev-7", "dev.id"}, {"dev", map[string]any{"id": []string{"dev-7"}}, "dev.id"}, {"dev", nil, "dev.id"},
		{"sub", nil, "user name"}, {"sub", "", "user name"}, {"sub", []string{"lamp"}, "user name"}, {"sub", "a\nb", "control"},
		{"groups", 7, "groups"}, {"groups", []any{"a", 1}, "groups"}, {"groups", []any{""}, "group"},
		{"acl", "topic read #", "rules"}, {"acl", []any{1}, "rules"}, {"acl", []any{"topic read a\ntopic read #"}, "control"},
		{"acl", map[string]any{"pub": "#"}, "list"}, {"acl", map[string]any{"deny": []any{"#"}}, "none of"},
		{"acl", map[string]any{"pub": []any{"a/#/b"}}, "filter"}, {"acl", map[string]any{"pub": []any{" a"}}, "filter"},
		{"acl", map[string]any{"sub": []any{"$share/g/a"}}, "filter"},
	} {
		want(t, a, with(c.claim, c.value), plugin.Deny, c.rule)
	}
	want(t, a, with("exp", start.Add(-29*time.Second).Unix()), plugin.Allow, "")
	want(t, a, with("nbf", start.Add(29*time.Second).Unix()), plugin.Allow, "")
	id = want(t, a, with("acl", map[string]any{"pub": []any{"a/b"}, "sub": []any{"c/#", "deny x"}, "all": []any{"d"}}), plugin.Allow, "")
	if !reflect.DeepEqual(id.Grant.Rules, []string{"topic readwrite d", "topic write a/b", "topic read c/#", "topic read deny x"}) {
		t.Errorf("rules %q", id.Grant.Rules)
	}
	if id = want(t, a, with("acl", []any{"topic read x"}), plugin.Allow, ""); !reflect.DeepEqual(id.Grant.Rules, []string{"topic read x"}) {
		t.Errorf("rules %q", id.Grant.Rules)
	}
	token := with("x", 1)
	h.now = start.Add(time.Hour + 31*time.Second)
	want(t, a, token, plugin.Deny, "expired")
}

func TestManyClaimsAreCut(t *testing.T) {
	a, _ := started(t, withSecret())
	many := jwt.MapClaims{}
	for i := range 300 {
		many[fmt.Sprintf("c%03d", i)] = "x"
	}
	many["deep"] = map[string]any{"a": map[string]any{"b": map[string]any{"c": map[string]any{"d": map[string]any{"e": "x"}}}}}
	if id := want(t, a, sign(t, "HS256", "", []byte(secret), claims(many)), plugin.Allow, ""); len(id.Grant.Claims) != remote.MaxClaims {
		t.Errorf("%d claims were handed on", len(id.Grant.Claims))
	}
	many["huge"] = strings.Repeat("x", maxToken)
	want(t, a, sign(t, "HS256", "", []byte(secret), claims(many)), plugin.Deny, "larger than")
}

func TestWhereTheTokenIs(t *testing.T) {
	token := sign(t, "HS256", "", []byte(secret), claims(nil))
	a, _ := started(t, withSecret())
	for _, other := range []string{"", "secret", "a.b.c", "..", "e30.e30.", token[1:], strings.Repeat(".", 100000), strings.Repeat("e", 1<<20) + ".e.e"} {
		want(t, a, other, plugin.Ignore, "")
	}
	o := withSecret()
	o.Others = "deny"
	a, _ = started(t, o)
	want(t, a, "secret", plugin.Deny, "no token")
	o = withSecret()
	o.From = "username"
	a, _ = started(t, o)
	l := login("irrelevant")
	l.Client.Username = token
	if d, id, err := a.Authenticate(t.Context(), l); d.Verdict != plugin.Allow || id.Username != "lamp" || err != nil {
		t.Errorf("from the user name: %v, %v, %v", d, id, err)
	}
	x, err := a.Begin(t.Context(), l.Client)
	if err != nil {
		t.Fatal(err)
	}
	if _, done, d, id, err := x.Next(t.Context(), []byte(token)); !done || d.Verdict != plugin.Allow || id.Grant.Expires.IsZero() || err != nil {
		t.Errorf("by AUTH: %v, %v, %v, %v", done, d, id, err)
	}
	for _, bad := range []string{"", "secret", token + "x", "e30.e30.", "\xff.\xff.\xff"} {
		if _, done, d, _, err := x.Next(t.Context(), []byte(bad)); !done || d.Verdict != plugin.Deny || err != nil {
			t.Errorf("by AUTH, %.20q: %v, %v, %v", bad, done, d, err)
		}
	}
	o = withSecret()
	o.UsernameClaim, o.Require = "none", map[string]string{"sub": "${username}"}
	a, _ = started(t, o)
	want(t, a, token, plugin.Deny, "sub") // the client calls itself otherwise
	if id := want(t, a, sign(t, "HS256", "", []byte(secret), claims(jwt.MapClaims{"sub": "claimed"})), plugin.Allow, ""); id.Username != "" {
		t.Errorf("the name was changed to %q", id.Username)
	}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func rsaJWK(kid string, k *rsa.PublicKey) string {
	return fmt.Sprintf(`{"kty":"RSA","use":"sig","kid":%q,"n":%q,"e":"AQAB"}`, kid, b64(k.N.Bytes()))
}

func ecJWK(kid string, k *ecdsa.PublicKey) string {
	raw, _ := k.Bytes()
	raw = raw[1:]
	return fmt.Sprintf(`{"kty":"EC","kid":%q,"alg":"ES256","crv":"P-256","x":%q,"y":%q}`, kid, b64(raw[:32]), b64(raw[32:]))
}

func set(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

// server gives out a set that can be changed, and counts.
type server struct {
	*httptest.Server
	body    atomic.Pointer[string]
	status  atomic.Int64
	fetches atomic.Int64
	delay   chan struct{}
}

func serve(t *testing.T, body string) *server {
	s := &server{}
	s.body.Store(&body)
	s.status.Store(200)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.fetches.Add(1)
		if s.delay != nil {
			<-s.delay
		}
		w.WriteHeader(int(s.status.Load()))
		fmt.Fprint(w, *s.body.Load())
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) set(body string) { s.body.Store(&body) }

func TestKeySet(t *testing.T) {
	ed := fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":"ed","x":%q}`, b64(edPublic))
	s := serve(t, set(rsaJWK("r1", &rsaKey.PublicKey), ecJWK("e1", &ecKey.PublicKey), ed, `{"kty":"oct","kid":"o","k":"`+b64([]byte(secret))+`"}`,
		`{"kty":"RSA","use":"enc","kid":"enc","n":"AQAB","e":"AQAB"}`, `7`, `{"kty":"new"}`))
	o := Defaults()
	o.JWKS = s.URL
	a, h := started(t, o)
	want(t, a, sign(t, "RS256", "r1", rsaKey, claims(nil)), plugin.Allow, "")
	want(t, a, sign(t, "PS512", "r1", rsaKey, claims(nil)), plugin.Allow, "")
	want(t, a, sign(t, "ES256", "e1", ecKey, claims(nil)), plugin.Allow, "")
	want(t, a, sign(t, "EdDSA", "ed", edKey, claims(nil)), plugin.Allow, "")
	want(t, a, sign(t, "ES256", "", ecKey, claims(nil)), plugin.Allow, "")
	want(t, a, sign(t, "RS256", "e1", rsaKey, claims(nil)), plugin.Deny, "no key")        // its kid is of another kind
	want(t, a, sign(t, "HS256", "o", []byte(secret), claims(nil)), plugin.Deny, "no key") // an address tells no secrets
	if !strings.Contains(h.log.text(), "some keys of the set are not used") {
		t.Errorf("the log says %s", h.log.text())
	}
}

func TestKeyRotation(t *testing.T) {
	s := serve(t, set(ecJWK("old", &ecKey.PublicKey)))
	o := Defaults()
	o.JWKS = s.URL
	a, h := started(t, o)
	newKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.set(set(ecJWK("new", &newKey.PublicKey)))
	token := sign(t, "ES256", "new", newKey, claims(nil))
	want(t, a, token, plugin.Deny, "no key") // fetched a moment ago
	h.now = h.now.Add(fetchGap)
	want(t, a, token, plugin.Allow, "")
	want(t, a, sign(t, "ES256", "old", ecKey, claims(nil)), plugin.Deny, "no key") // gone from the set
	if n := s.fetches.Load(); n != 2 {
		t.Errorf("%d fetches", n)
	}
	// However many tokens with unknown keys come, fetches are few.
	h.now = h.now.Add(fetchGap)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() { want(t, a, sign(t, "ES256", fmt.Sprint(i), newKey, claims(nil)), plugin.Deny, "no key") })
	}
	all.Wait()
	if n := s.fetches.Load(); n != 3 {
		t.Errorf("%d fetches, want 3", n)
	}
	// What is no set changes nothing.
	for _, bad := range []string{"", "{", "[]", "{}", set(), set(`{"kty":"RSA","n":"AQAB","e":"AQAB"}`), strings.Repeat(" ", 2*maxSet),
		set(strings.Split(strings.Repeat(ecJWK("x", &ecKey.PublicKey)+"|", maxKeys+1), "|")[:maxKeys+1]...), "<html>login</html>"} {
		s.set(bad)
		h.now = h.now.Add(fetchGap)
		want(t, a, sign(t, "ES256", "unknown", newKey, claims(nil)), plugin.Deny, "no key")
		want(t, a, token, plugin.Allow, "")
	}
	s.status.Store(500)
	s.set(set(ecJWK("evil", &ecKey.PublicKey)))
	h.now = h.now.Add(fetchGap)
	want(t, a, sign(t, "ES256", "evil", ecKey, claims(nil)), plugin.Deny, "no key")
	want(t, a, token, plugin.Allow, "")
	if err := a.Reload(t.Context()); err == nil {
		t.Error("a reload with a bad answer succeeded")
	}
	if n := strings.Count(h.log.text(), "cannot be fetched"); n != 1 {
		t.Errorf("it was said %d times: %s", n, h.log.text())
	}
}

func TestStartWithoutTheSet(t *testing.T) {
	s := serve(t, "")
	s.status.Store(503)
	o := Defaults()
	o.JWKS = s.URL
	a, h := started(t, o)
	token := sign(t, "ES256", "k", ecKey, claims(nil))
	want(t, a, token, plugin.Deny, "no key")
	s.status.Store(200)
	s.set(set(ecJWK("k", &ecKey.PublicKey)))
	h.now = h.now.Add(fetchGap)
	want(t, a, token, plugin.Allow, "")
}

// Stop does not wait for a server that hangs.
func TestStopEndsAFetch(t *testing.T) {
	s := serve(t, set(ecJWK("k", &ecKey.PublicKey)))
	o := Defaults()
	o.JWKS = s.URL
	a, h := started(t, o)
	s.delay = make(chan struct{})
	defer close(s.delay)
	h.now = h.now.Add(fetchGap)
	done := make(chan struct{})
	go func() {
		defer close(done)
		want(t, a, sign(t, "ES256", "other", ecKey, claims(nil)), plugin.Deny, "no key")
	}()
	for s.fetches.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	a.Stop(t.Context())
	<-done
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestKeyFilesAreFollowed(t *testing.T) {
	path := fileOf(t, pemOf(t, ecKey.Public()))
	sets := fileOf(t, set(rsaJWK("r", &rsaKey.PublicKey), `{"kty":"oct","kid":"o","k":"`+b64([]byte(secret))+`"}`))
	o := Defaults()
	o.Keys, o.JWKS = []KeyOptions{{ID: "k", File: path}}, sets
	a, h := started(t, o)
	token := sign(t, "ES256", "k", ecKey, claims(nil))
	want(t, a, token, plugin.Allow, "")
	want(t, a, sign(t, "HS512", "o", []byte(secret), claims(nil)), plugin.Allow, "")
	want(t, a, sign(t, "RS256", "r", rsaKey, claims(nil)), plugin.Allow, "")
	if err := os.WriteFile(path, []byte("broken, of another length"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.keys.lookAtFiles()
	a.keys.lookAtFiles()
	want(t, a, token, plugin.Allow, "")
	if n := strings.Count(h.log.text(), "level=ERROR"); n != 1 {
		t.Errorf("it was said %d times: %s", n, h.log.text())
	}
	if err := a.Reload(t.Context()); err == nil {
		t.Error("a broken file was reloaded")
	}
	if err := os.WriteFile(path, []byte(pemOf(t, edPublic)), 0o600); err != nil {
		t.Fatal(err)
	}
	a.keys.lookAtFiles()
	want(t, a, token, plugin.Deny, "no key")
	want(t, a, sign(t, "EdDSA", "k", edKey, claims(nil)), plugin.Allow, "")
}

func TestMistakes(t *testing.T) {
	small, _ := rsa.GenerateKey(rand.Reader, 1024)
	private, _ := x509.MarshalPKCS8PrivateKey(ecKey)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	for name, c := range map[string]struct {
		change func(o *Options)
		want   string
	}{
		"nothing":        {func(o *Options) { o.Keys = nil }, "there is no key"},
		"two in one":     {func(o *Options) { o.Keys[0].File = "x" }, "one of"},
		"short secret":   {func(o *Options) { o.Keys[0].Secret = "short" }, "32 at least"},
		"no base64":      {func(o *Options) { o.Keys[0].Base64, o.Keys[0].Secret = true, secret+"!" }, "base64"},
		"algorithm":      {func(o *Options) { o.Keys[0].Algorithms = []string{"none"} }, "not known"},
		"other kind":     {func(o *Options) { o.Keys[0].Algorithms = []string{"RS256"} }, "does not serve"},
		"long for HS512": {func(o *Options) { o.Keys[0].Secret, o.Keys[0].Algorithms = secret[:32], []string{"HS512"} }, "does not serve"},
		"from":           {func(o *Options) { o.From = "header" }, "write password or username"},
		"others":         {func(o *Options) { o.Others = "allow" }, "write ignore or deny"},
		"leeway":         {func(o *Options) { o.Leeway = time.Hour }, "write 0s to 10m"},
		"refresh":        {func(o *Options) { o.JWKSRefresh = time.Second }, "write 10s to 1d"},
		"plain address":  {func(o *Options) { o.JWKS = "http://example.org/keys" }, "unencrypted"},
		"template":       {func(o *Options) { o.Require = map[string]string{"a": "${user}"} }, "not known"},
		"nobody vouches": {func(o *Options) { o.UsernameClaim = "none" }, "nobody vouches"},
		"no file":        {func(o *Options) { o.Keys = []KeyOptions{{File: "nowhere.pem"}} }, "nowhere.pem"},
		"private key": {func(o *Options) {
			o.Keys = []KeyOptions{{File: fileOf(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))}}
		}, "private key"},
		"small key":  {func(o *Options) { o.Keys = []KeyOptions{{File: fileOf(t, pemOf(t, small.Public()))}} }, "2048"},
		"curve":      {func(o *Options) { o.Keys = []KeyOptions{{File: fileOf(t, pemOf(t, p224.Public()))}} }, "P-224"},
		"empty file": {func(o *Options) { o.Keys = []KeyOptions{{File: fileOf(t, "")}} }, "no public key"},
		"bad set":    {func(o *Options) { o.JWKS = fileOf(t, "{}") }, "no keys"},
	} {
		o := withSecret()
		c.change(&o)
		a, err := New(o)
		if err == nil {
			err = a.Start(t.Context(), &host{start, &lockedLog{}})
			a.Stop(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), Name+": ") {
			t.Errorf("%s: error %v, want %s", name, err, c.want)
		}
	}
	var notStarted Auth
	if d, _, err := notStarted.judge(t.Context(), "x", nil); err == nil || d.Verdict != plugin.Ignore {
		t.Error("it judges before Start")
	}
}

// RFC 7515, appendix A.1 and A.3: tokens and keys made by others.
func TestGoldenTokens(t *testing.T) {
	o := Defaults()
	o.JWKS = fileOf(t, set(
		`{"kty":"oct","kid":"hs","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}`,
		`{"kty":"EC","kid":"ec","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`))
	o.UsernameClaim = "iss"
	a, h := started(t, o)
	h.now = time.Unix(1300819380-60, 0)
	for _, token := range []string{
		"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
		"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
	} {
		if id := want(t, a, token, plugin.Allow, ""); id.Username != "joe" || id.Grant.Claims["http://example.com/is_root"] != "true" {
			t.Errorf("identity %+v", id)
		}
	}
}

func FuzzToken(f *testing.F) {
	o := withSecret()
	o.JWKS = ""
	a, err := New(o)
	if err != nil {
		f.Fatal(err)
	}
	if err := a.Start(f.Context(), &host{start, &lockedLog{}}); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { a.Stop(context.Background()) })
	f.Add("e30.e30.", "HS256", `{"sub":"x"}`)
	f.Add("a.b.c", "none", `{"exp":1e400}`)
	f.Fuzz(func(t *testing.T, token, alg, body string) {
		if d, _, err := a.Authenticate(t.Context(), login(token)); d.Verdict == plugin.Allow || err != nil {
			t.Fatalf("%v, %v", d, err)
		}
		// Claims that are anything, well signed: whoever comes in has an end and a name.
		head := b64(fmt.Appendf(nil, `{"alg":%q}`, alg)) + "." + b64([]byte(body))
		mac, _ := jwt.SigningMethodHS256.Sign(head, []byte(secret))
		d, id, err := a.judge(t.Context(), head+"."+b64(mac), login(""))
		if err != nil || d.Verdict == plugin.Allow && (id.Username == "" || id.Grant.Expires.IsZero() || alg != "HS256") {
			t.Fatalf("%v, %+v, %v", d, id, err)
		}
	})
}

func FuzzKeySet(f *testing.F) {
	f.Add([]byte(set(rsaJWK("r", &rsaKey.PublicKey), ecJWK("e", &ecKey.PublicKey))))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, _, err := parseSet(text, true)
		if (err == nil) == (len(keys) == 0) {
			t.Fatalf("%d keys and %v", len(keys), err)
		}
		for _, k := range keys {
			if _, ok := k.public.(crypto.PublicKey); !ok || len(k.algorithms) == 0 {
				t.Fatalf("%+v", k)
			}
		}
	})
}
