// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package servers

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// need finds a program, in the path or where Debian puts it, or skips.
func need(t testing.TB, name string, also ...string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, pattern := range append(also, "/usr/sbin/"+name) {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	if os.Getenv("INTEROP") == "require" {
		t.Fatal(name + " is not installed")
	}
	t.Skip("NOT TESTED: " + name + " is not installed")
	return ""
}

// port finds one that nobody listens on now.
func port(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, p, _ := net.SplitHostPort(l.Addr().String())
	return p
}

// folder is a short one, for sockets, that the user as who servers run may write.
func folder(t testing.TB, as *syscall.Credential) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "srv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if as != nil {
		if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// credential is a user for servers that do not run as root; nil if this is not root.
func credential(t testing.TB, name string) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Skip("NOT TESTED: as root, and there is no user " + name)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// run runs a program to its end.
func run(t testing.TB, as *syscall.Credential, dir, stdin, path string, args ...string) string {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", path, args, err, out)
	}
	return string(out)
}

type log struct {
	sync.Mutex
	bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) { l.Lock(); defer l.Unlock(); return l.Buffer.Write(p) }
func (l *log) text() string                { l.Lock(); defer l.Unlock(); return l.Buffer.String() }

// A Server is one that runs.
type Server struct {
	t    testing.TB
	cmd  *exec.Cmd
	log  log
	dead chan struct{}
}

// start starts a server, and returns when somebody listens on the port.
func start(t testing.TB, as *syscall.Credential, dir, port, path string, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, cmd: exec.Command(path, args...), dead: make(chan struct{})}
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = dir, &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.cmd.Wait(); close(s.dead) }()
	t.Cleanup(s.Stop)
	for range 1200 {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
			return s
		}
		select {
		case <-s.dead:
			t.Fatalf("%s ended:\n%s", path, s.log.text())
		case <-time.After(25 * time.Millisecond):
		}
	}
	t.Fatalf("%s does not listen:\n%s", path, s.log.text())
	return nil
}

// Stop ends the server and those that it started.
func (s *Server) Stop() {
	select {
	case <-s.dead:
		return
	default:
	}
	syscall.Kill(-s.cmd.Process.Pid, syscall.SIGQUIT) // at once for PostgreSQL; others take it as well
	select {
	case <-s.dead:
	case <-time.After(10 * time.Second):
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.dead
	}
}

// Freeze stops the server from answering, or lets it go on. PostgreSQL's processes for connections are not its to stop.
func (s *Server) Freeze(on bool) {
	sig := syscall.SIGCONT
	if on {
		sig = syscall.SIGSTOP
	}
	if err := syscall.Kill(-s.cmd.Process.Pid, sig); err != nil {
		s.t.Error(err)
	}
}

// Postgres starts PostgreSQL, and gives a DSN of its superuser, with password and without TLS.
func Postgres(t testing.TB) (*Server, string) {
	t.Helper()
	initdb := need(t, "initdb", "/usr/lib/postgresql/*/bin/initdb")
	server := filepath.Join(filepath.Dir(initdb), "postgres")
	as := credential(t, "postgres")
	dir, p := folder(t, as), port(t)
	pw := filepath.Join(dir, "pw")
	if err := os.WriteFile(pw, []byte("secret\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	run(t, as, dir, "", initdb, "-D", data, "-U", "root", "--pwfile", pw, "--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C")
	s := start(t, as, dir, p, server, "-D", data, "-h", "127.0.0.1", "-p", p, "-k", dir, "-F", "-c", "max_connections=100", "-c", "shared_buffers=16MB")
	for range 200 { // it listens before it takes anybody
		if exec.Command(filepath.Join(filepath.Dir(initdb), "pg_isready"), "-q", "-h", "127.0.0.1", "-p", p).Run() == nil {
			break
		}
		time.Sleep(25 * time.Millisecond)
	}
	return s, fmt.Sprintf("postgres://root:secret@127.0.0.1:%s/postgres?sslmode=disable", p)
}

// MariaDB starts MariaDB, and gives a DSN of a user of the database test.
func MariaDB(t testing.TB) (*Server, string) {
	t.Helper()
	server, install := need(t, "mariadbd"), need(t, "mariadb-install-db")
	as := credential(t, "mysql")
	dir, p := folder(t, as), port(t)
	data := filepath.Join(dir, "data")
	run(t, as, dir, "", install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db")
	boot := filepath.Join(dir, "boot.sql")
	sql := "CREATE DATABASE test CHARACTER SET utf8mb4;\nCREATE USER 'u'@'127.0.0.1' IDENTIFIED BY 'secret';\nGRANT ALL ON test.* TO 'u'@'127.0.0.1';\n"
	if err := os.WriteFile(boot, []byte(sql), 0o644); err != nil {
		t.Fatal(err)
	}
	s := start(t, as, dir, p, server, "--no-defaults", "--datadir="+data, "--bind-address=127.0.0.1", "--port="+p, "--socket="+filepath.Join(dir, "s"),
		"--pid-file="+filepath.Join(dir, "pid"), "--init-file="+boot, "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0")
	return s, fmt.Sprintf("u:secret@tcp(127.0.0.1:%s)/test", p)
}

// Redis starts Redis, and gives its address and password.
func Redis(t testing.TB) (s *Server, address, password string) {
	t.Helper()
	server := need(t, "redis-server")
	dir, p := folder(t, nil), port(t)
	s = start(t, nil, dir, p, server, "--bind", "127.0.0.1", "--port", p, "--requirepass", "secret", "--save", "", "--appendonly", "no", "--dir", dir)
	return s, "127.0.0.1:" + p, "secret"
}

// Directory is a running OpenLDAP.
type Directory struct {
	*Server
	Address        string // without TLS, but StartTLS
	SecureAddress  string // with TLS
	Base           string // dc=example,dc=org
	Admin, AdminPW string
}

// LDAP starts OpenLDAP with the entries of an LDIF text, and with a certificate for StartTLS and ldaps.
func LDAP(t testing.TB, ldif, certFile, keyFile string) *Directory {
	t.Helper()
	slapd := need(t, "slapd")
	add := need(t, "slapadd")
	schema := "/etc/ldap/schema"
	if _, err := os.Stat(schema); err != nil {
		schema = "/etc/openldap/schema"
	}
	dir, p, sp := folder(t, nil), port(t), port(t)
	d := &Directory{Address: "127.0.0.1:" + p, SecureAddress: "127.0.0.1:" + sp, Base: "dc=example,dc=org", Admin: "cn=admin,dc=example,dc=org", AdminPW: "admin-secret"}
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	modules := ""
	if found, _ := filepath.Glob("/usr/lib/ldap/back_mdb*"); len(found) > 0 {
		modules = "modulepath /usr/lib/ldap\nmoduleload back_mdb\nmoduleload memberof\n"
	}
	conf := fmt.Sprintf(`include %[1]s/core.schema
include %[1]s/cosine.schema
include %[1]s/inetorgperson.schema
pidfile %[2]s/pid
%[3]sTLSCertificateFile %[4]s
TLSCertificateKeyFile %[5]s
database mdb
maxsize 10485760
suffix "%[6]s"
rootdn "%[7]s"
rootpw %[8]s
directory %[2]s/db
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
`, schema, dir, modules, certFile, keyFile, d.Base, d.Admin, d.AdminPW)
	file := filepath.Join(dir, "slapd.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, dir, ldif, add, "-f", file, "-b", d.Base, "-q")
	d.Server = start(t, nil, dir, p, slapd, "-f", file, "-h", "ldap://"+d.Address+" ldaps://"+d.SecureAddress, "-d", "0")
	return d
}
