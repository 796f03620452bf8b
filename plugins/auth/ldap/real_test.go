// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package ldap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/noctule/noctule/internal/testkit/servers"
	"github.com/noctule/noctule/plugin"
)

const people = `dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=org
objectClass: organizationalUnit
ou: groups

dn: uid=ann,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: ann
cn: Ann
sn: A
mail: ann@example.org
userPassword: wonder
description: cn=ops,ou=groups,dc=example,dc=org
description: plain

dn: uid=root,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: root
cn: Root
sn: R
userPassword: toor

dn: cn=Twin one,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: twin
cn: Twin one
sn: T
userPassword: twin

dn: cn=Twin two,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: twin
cn: Twin two
sn: T
userPassword: twin

dn: cn=ops,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: ops
member: uid=ann,ou=people,dc=example,dc=org

dn: cn=admins,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: admins
member: uid=root,ou=people,dc=example,dc=org
`

// certificate makes one for loopback, its own authority.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ldap"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, x, x, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, b := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestOpenLDAP(t *testing.T) {
	cert, key := certificate(t)
	d := servers.LDAP(t, people, cert, key)
	search := plain("ldap://" + d.Address)
	search.BindDN, search.BindPassword = d.Admin, d.AdminPW
	search.GroupAttribute, search.GroupBase, search.SuperuserGroup, search.Claims = "description", "ou=groups,dc=example,dc=org", "admins", []string{"mail", "nothing"}
	direct := search
	direct.BindDN, direct.BindPassword, direct.UserDN = "", "", "uid=${username},ou=people,dc=example,dc=org"
	secure, upgraded := search, search
	secure.URL, secure.CAFile = "ldaps://"+d.SecureAddress, cert
	upgraded.StartTLS, upgraded.CAFile = true, cert
	for name, o := range map[string]Options{"search": search, "direct": direct, "ldaps": secure, "StartTLS": upgraded} {
		a := started(t, o)
		id := want(t, a, login("ann", "wonder"), plugin.Allow)
		if !reflect.DeepEqual(id.Groups, []string{"ops", "plain"}) || !reflect.DeepEqual(id.Grant.Claims, map[string]string{"mail": "ann@example.org"}) {
			t.Errorf("%s: %+v, %+v", name, id, id.Grant)
		}
		if id = want(t, a, login("root", "toor"), plugin.Allow); len(id.Groups) != 2 || len(id.Grant.Rules) != 2 {
			t.Errorf("%s: %+v", name, id)
		}
		want(t, a, login("ann", "wonde"), plugin.Deny)
		want(t, a, login("ann", ""), plugin.Deny)
		want(t, a, login("bob", "wonder"), plugin.Deny)
		for _, bad := range []string{"*", "ann)(uid=*", "ann,ou=people,dc=example,dc=org", "a\\", "twin", strings.Repeat("x", 60000), "(", "=", ",", "#", "\u00e9", "ann\u0000"} {
			want(t, a, login(bad, "wonder"), plugin.Deny)
			want(t, a, login(bad, "twin"), plugin.Deny)
		}
		var all sync.WaitGroup
		for range 30 {
			all.Go(func() { want(t, a, login("ann", "wonder"), plugin.Allow) })
		}
		all.Wait()
	}
	o := search
	o.Unknown = "ignore"
	want(t, started(t, o), login("bob", "x"), plugin.Ignore)
	want(t, started(t, o), login("ann", "x"), plugin.Deny)
	fails := func(what string, o Options, text string) {
		t.Helper()
		began := time.Now()
		d, _, err := started(t, o).Authenticate(t.Context(), login("ann", "wonder"))
		if err == nil || d.Verdict == plugin.Allow || !strings.Contains(err.Error(), text) || time.Since(began) > 5*time.Second {
			t.Errorf("%s: %v, %v after %v", what, d, err, time.Since(began))
		}
	}
	o = search
	o.BindPassword = "wrong"
	fails("we may not bind", o, "bind_dn")
	o = secure
	o.CAFile = ""
	fails("an authority that is not known", o, "certificate")
	o = upgraded
	o.CAFile = ""
	fails("the same with StartTLS", o, "certificate")
	d.Freeze(true)
	o = search
	o.Timeout = 300 * time.Millisecond
	fails("frozen", o, "")
	o.StartTLS = true
	fails("frozen, StartTLS", o, "")
	o = secure
	o.Timeout = 300 * time.Millisecond
	fails("frozen, ldaps", o, "")
	d.Freeze(false)
	want(t, started(t, search), login("ann", "wonder"), plugin.Allow)
	d.Stop()
	fails("stopped", search, "")
}
