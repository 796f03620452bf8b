// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/noctule/noctule/client"
)

// result is what an invocation leaves.
type result struct {
	out, words string
	code       int
}

// ours runs a client verb in this process, under the name of Mosquitto's program.
func ours(stdin string, args ...string) result {
	var out, words bytes.Buffer
	cmd := program(args)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&words)
	err := cmd.Execute()
	r := result{out: out.String(), words: words.String()}
	if e, ok := errors.AsType[*exit](err); ok {
		r.code = e.code
	} else if err != nil {
		r.code, r.words = -1, err.Error()
	}
	return r
}

// theirs runs Mosquitto's program itself.
func theirs(stdin string, args ...string) result {
	var out, words bytes.Buffer
	cmd := exec.Command(filepath.Join(mosquittoDirectory, args[0]), args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &words
	err := cmd.Run()
	r := result{out: out.String(), words: words.String(), code: cmd.ProcessState.ExitCode()}
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		r.words = err.Error()
	}
	return r
}

// mosquittoDirectory has Mosquitto's clients; PATH has ours under the same names.
const mosquittoDirectory = "/usr/bin"

// needMosquitto says loudly if there is nothing to compare with.
func needMosquitto(t *testing.T) {
	t.Helper()
	for _, name := range []string{"mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "../sbin/mosquitto"} {
		if _, err := os.Stat(filepath.Join(mosquittoDirectory, name)); err != nil {
			t.Skipf("MOSQUITTO IS NOT INSTALLED: nothing was compared (apt-get install mosquitto mosquitto-clients): %v", err)
		}
	}
}

// mosquittoBroker runs Mosquitto's broker on a free port of the loopback address.
func mosquittoBroker(t *testing.T, config string) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(l.Addr().String())
	l.Close()
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(file, []byte(fmt.Sprintf("listener %s 127.0.0.1\n%s\n", port, config)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/mosquitto", "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait() // its error is that it was killed
	})
	for range 500 {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
			return port
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("mosquitto does not start")
	return ""
}

// What varies from one run to the next.
var (
	timestamp = regexp.MustCompile(`("tst":\s*")[^"]*`)
	clock     = regexp.MustCompile(`T[0-9]{2}:[0-9:]+`)
	expiry    = regexp.MustCompile(`\b(1000000|9999[0-9]{2})\b`) // what is left of a million seconds
)

func steady(s string) string {
	return expiry.ReplaceAllString(clock.ReplaceAllString(timestamp.ReplaceAllString(s, "${1}T"), "T"), "E")
}

// setUp publishes retained messages of all kinds.
var setUp = [][]string{
	{"mosquitto_pub", "-t", "r/1", "-m", "hello", "-r"},
	{"mosquitto_pub", "-V", "5", "-t", "r/2", "-m", "{\"a\": 1,\n \"b\":\"ü\",\"c\":[1,2.5,{\"d\":null}],\"e\":{}}", "-r",
		"-D", "publish", "content-type", "application/json", "-D", "publish", "user-property", "k", "v",
		"-D", "PUBLISH", "user-property", "k", "w", "-D", "publish", "response-topic", "re/x", "-D", "publish", "correlation-data", "abc",
		"-D", "publish", "message-expiry-interval", "1000000", "-D", "publish", "payload-format-indicator", "1"},
	{"mosquitto_pub", "-t", "r/3", "-s", "-r", "-q", "2"},
	{"mosquitto_pub", "-t", "r/4", "-n", "-r"},
	{"mosquitto_pub", "-t", "r/5", "-m", "12.5", "-r", "-q", "1"},
}

var formats = []string{
	"%j", "%J", "%t|%p|%l|%q|%r|%m|%A|%C|%D|%F|%P|%R|%S|%%", "%20t|%-20t|%.2t|%05l|%-6l|%10.3t|%010t|%x|%X|%5q|%08r",
	"%10C|%-10C|%3P|%.2R|%5A|%-8A|%04F", "%05x|%-20x|%20p|%.2p|%020p|%30I|%-30I|%05m|%3X|%4p|%-5p|%05p",
	"@Y-@m-@d @@ @j @U @W @V @u @w @C @y @G @g @a @b @B @A @e @D @F @n@t@Z@z", `\t\n\a\e\\\0x\r\v`,
}

// The same command lines print the same, byte for byte, as Mosquitto's programs do, and end with the same code.
func TestOutputIsThatOfMosquitto(t *testing.T) {
	needMosquitto(t)
	port := mosquittoBroker(t, "allow_anonymous true")
	with := func(args []string, more ...string) []string {
		return slices.Concat(args[:1], []string{"-p", port}, args[1:], more)
	}
	for _, args := range setUp {
		if r := ours("bin\x01\"\\\n\t/", with(args)...); r.code != 0 || r.words != "" {
			t.Fatalf("%q: %+v", args, r)
		}
	}
	var lines [][]string
	for _, f := range formats {
		lines = append(lines, []string{"mosquitto_sub", "-t", "r/#", "-q", "1", "-F", f, "-C", "4", "-W", "5"})
	}
	lines = append(lines,
		[]string{"mosquitto_sub", "-t", "r/#", "-F", "%j", "--pretty", "-C", "4", "-W", "5"},
		[]string{"mosquitto_sub", "-t", "r/#", "-F", "%J", "--pretty", "-C", "4", "-W", "5"},
		[]string{"mosquitto_sub", "-t", "r/#", "-v", "-C", "4", "-W", "5"},
		[]string{"mosquitto_sub", "-t", "r/#", "-N", "-C", "4", "-W", "5"},
		[]string{"mosquitto_sub", "--topic", "r/#", "--filter-out", "r/1", "-T", "r/3/#", "-C", "2", "-W", "5"},
		[]string{"mosquitto_sub", "-t", "r/1", "-t", "r/5", "--verbose", "-C", "2", "-W", "5"},
		[]string{"mosquitto_sub", "-t", "r/5", "--retained-only", "-v", "-W", "1"},
		[]string{"mosquitto_sub", "-t", "r/5", "-R", "-W", "1"},
		[]string{"mosquitto_sub", "-t", "none", "-E"},
		[]string{"mosquitto_sub", "-t", "none", "-W", "1"},
		[]string{"mosquitto_pub", "-t", "x", "-m", "y", "--repeat", "3", "--repeat-delay", "0.01", "-q", "2"},
		[]string{"mosquitto_pub", "-t", "x", "-m", "y", "--will-topic", "w", "--will-payload", "p", "--will-qos", "1", "--will-retain"},
		[]string{"mosquitto_pub", "-t", "x", "-m", "y", "-n"},
		[]string{"mosquitto_pub", "-t", "x/#", "-m", "y"},
		[]string{"mosquitto_pub", "-t", "x"},
		[]string{"mosquitto_pub", "-t", "x", "-m", "y", "-q", "3"},
		[]string{"mosquitto_pub", "-t", "x", "-m", "y", "-I", "a", "-i", "b"},
		[]string{"mosquitto_pub", "-t", "x", "-f", "/does/not/exist"},
		[]string{"mosquitto_pub", "-t", "x", "-m", "y", "-D", "publish", "nonsense", "1"},
		[]string{"mosquitto_pub", "--nonsense"},
		[]string{"mosquitto_sub", "-t", "a/#b"},
		[]string{"mosquitto_sub", "-t", "x", "-c"},
		[]string{"mosquitto_sub", "-t", "x", "-F", "%y"},
		[]string{"mosquitto_rr", "-t", "x", "-m", "y"},
		[]string{"mosquitto_rr", "-t", "x", "-e", "y", "-m", "z", "-W", "1"},
	)
	for _, line := range lines {
		for _, version := range []string{"311", "5"} {
			args := with(line, "-V", version)
			t.Run(strings.Join(args[3:], " "), func(t *testing.T) {
				t.Parallel()
				want, got := theirs("", args...), ours("", args...)
				if strings.HasPrefix(want.out, "\nUsage") || strings.Contains(want.out, "Usage:") {
					want.out = "" // help that an error brings up
				}
				if steady(got.out) != steady(want.out) || got.code != want.code {
					t.Errorf("we print %q and end with %d, they print %q and end with %d; our words: %s",
						got.out, got.code, want.out, want.code, got.words)
				}
				if (got.words == "") != (want.words == "") {
					t.Errorf("our words are %q, theirs %q", got.words, want.words)
				}
			})
		}
	}
}

// Messages that pass between our programs and theirs, through a session that waits for its subscriber.
func TestMessagesPassBetweenOursAndMosquitto(t *testing.T) {
	needMosquitto(t)
	port := mosquittoBroker(t, "allow_anonymous true")
	file := filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(file, []byte("of a file\x00\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	type run func(string, ...string) result
	for _, k := range []struct {
		name, stdin, want string
		pub, sub          []string
	}{
		{"lines", "l1\nl2\n\nl4", "t l1\nt l2\nt (null)\nt l4\n", []string{"-l"}, []string{"-C", "4", "-v"}},
		{"repeat", "", "1 x\n1 x\n1 x\n", []string{"-m", "x", "--repeat", "3"}, []string{"-C", "3", "-F", "%q %p"}},
		{"null", "", "t (null)\n", []string{"-n"}, []string{"-C", "1", "-v"}},
		{"file", "", "of a file\x00\n", []string{"-f", file}, []string{"-C", "1", "-N"}},
		{"stdin", "all\nof it", "all\nof it\n", []string{"-s"}, []string{"-C", "1"}},
		{"properties", "", "c text\n", []string{"-m", "c", "-D", "publish", "content-type", "text"}, []string{"-V", "5", "-C", "1", "-F", "%p %C"}},
	} {
		for i, pair := range [][2]run{{ours, ours}, {ours, theirs}, {theirs, ours}} {
			t.Run(fmt.Sprint(k.name, " ", i), func(t *testing.T) {
				t.Parallel()
				prefix := fmt.Sprintf("%s%d/", k.name, i)
				session := []string{"mosquitto_sub", "-p", port, "-t", prefix + "t", "-q", "1", "-i", prefix, "-c"}
				publish := slices.Concat([]string{"mosquitto_pub", "-p", port, "-t", prefix + "t", "-q", "1"}, k.pub)
				if r := pair[1]("", append(slices.Clone(session), "-E")...); r.code != 0 {
					t.Errorf("subscribing: %+v", r)
				}
				if r := pair[0](k.stdin, publish...); r.code != 0 {
					t.Errorf("publishing: %+v", r)
				}
				r := pair[1]("", slices.Concat(session, k.sub, []string{"-W", "10"})...)
				if strings.ReplaceAll(r.out, prefix, "") != k.want || r.code != 0 {
					t.Errorf("got %+v, want %q", r, k.want)
				}
			})
		}
	}
}

func TestRequestAndResponse(t *testing.T) {
	needMosquitto(t)
	port := mosquittoBroker(t, "allow_anonymous true")
	c, err := client.Dial(t.Context(), client.Options{Servers: []string{"mqtt://127.0.0.1:" + port}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	_, err = c.Subscribe(t.Context(), client.Subscription{Filter: "ask/+", QoS: 1, Handler: func(ctx context.Context, m *client.Message) {
		if want := map[string]string{"ask/5": "answer", "ask/311": ""}[m.Topic]; m.ResponseTopic != want {
			t.Errorf("%s has the response topic %q", m.Topic, m.ResponseTopic)
		}
		m.ResponseTopic = "answer"
		if err := c.Respond(ctx, m, client.Message{Payload: append([]byte("because "), m.Payload...)}); err != nil {
			t.Error(err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"5", "311"} {
		args := []string{"mosquitto_rr", "-p", port, "-V", version, "-t", "ask/" + version, "-e", "answer", "-m", "why", "-v", "-W", "10"}
		if r := ours("", args...); r != (result{out: "answer because why\n"}) {
			t.Errorf("version %s: %+v", version, r)
		}
	}
}

func TestRefusedConnectionsEndWithTheirCode(t *testing.T) {
	needMosquitto(t)
	port := mosquittoBroker(t, "allow_anonymous false")
	for version, code := range map[string]int{"311": 5, "5": 135} {
		for _, program := range []string{"mosquitto_pub", "mosquitto_sub", "mosquitto_rr"} {
			args := []string{program, "-p", port, "-V", version, "-t", "t"}
			switch program {
			case "mosquitto_pub":
				args = append(args, "-m", "x")
			case "mosquitto_rr":
				args = append(args, "-m", "x", "-e", "y")
			}
			want, got := theirs("", args...), ours("", args...)
			if got.code != code || want.code != code || got.out != want.out {
				t.Errorf("%v: we end with %d, they with %d, both should with %d", args, got.code, want.code, code)
			}
			if quiet := ours("", append(args, "--quiet")...); quiet.words != "" || quiet.code != code {
				t.Errorf("with --quiet: %+v", quiet)
			}
		}
	}
}

func TestNobodyListens(t *testing.T) {
	r := ours("", "mosquitto_pub", "-p", "1", "-t", "t", "-m", "x")
	if r.code != 1 || !strings.Contains(r.words, "refused") {
		t.Errorf("%+v", r)
	}
}

func TestFlagsThatAreWrongSayWhatIsRight(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	for line, want := range map[string]string{
		"mosquitto_pub --tpic x":                                   "did you mean --topic?",
		"mosquitto_pub --qoss 1":                                   "did you mean --qos?",
		"mosquitto_sub --retaind-only":                             "did you mean --retained-only?",
		"mosquitto_pub -Z":                                         "unknown option '-Z'",
		"mosquitto_pub -C 1":                                       "unknown option '-C'",
		"mosquitto_pub -t":                                         "no topic specified",
		"mosquitto_pub -t x -m y -p 99999":                         "between 1 and 65535",
		"mosquitto_pub -t x -m y -V 7":                             "protocol version",
		"mosquitto_pub -t x -m y -k 99999":                         "keepalive",
		"mosquitto_pub -t x -m y -D publish":                       "-D needs",
		"mosquitto_pub -t x -m y -D nobody user-property a b":      "invalid command",
		"mosquitto_pub -t x -m y -D publish user-property a":       "key and a value",
		"mosquitto_pub -t x -m y -D publish topic-alias 70000":     "between 0 and 65535",
		"mosquitto_pub -t x -m y -D connect receive-maximum 0":     "must not be 0",
		"mosquitto_pub -t x -m y -V 311 -D publish content-type a": "MQTT 5 only",
		"mosquitto_pub -t x -m y --will-payload p":                 "--will-topic",
		"mosquitto_pub -t x -m y --cert c":                         "given together",
		"mosquitto_pub -t x -m y -P secret":                        "user name",
		"mosquitto_pub -t x -m y --psk 00":                         "pre-shared keys",
		"mosquitto_pub -L http://h/t -m y":                         "URL scheme",
		"mosquitto_pub -L mqtt:///t -m y":                          "host is missing",
		"mosquitto_pub -t x -m y --cafile /does/not/exist":         "no such file",
		"mosquitto_pub -t x -m y --proxy http://p":                 "socks5h",
		"mosquitto_pub --nodelay=1 -t x -m y":                      "takes no argument",
		"mosquitto_sub -t x -F %":                                  "incomplete",
		"mosquitto_sub -t x -F \\q":                                "invalid escape",
		"mosquitto_sub -t x --random-filter 200":                   "between 0.1 and 100",
		"mosquitto_sub -t x --retain-handling sometimes":           "always, new and never",
		"mosquitto_sub -t x -x 99999999999":                        "session expiry",
		"mosquitto_sub -t x -x -1":                                 "client id",
	} {
		r := ours("", strings.Fields(line)...)
		if r.code != exitError || !strings.Contains(r.words, want) || r.out != "" {
			t.Errorf("%s: %+v, want %q", line, r, want)
		}
	}
}

func TestHelpNamesEveryFlag(t *testing.T) {
	for _, k := range []struct {
		name string
		verb byte
	}{{"mosquitto_pub", 'p'}, {"mosquitto_sub", 's'}, {"mosquitto_rr", 'r'}} {
		r := ours("", k.name, "--help")
		if r.code != 0 || r.words != "" {
			t.Errorf("%s: %+v", k.name, r)
		}
		for _, flag := range clientFlagTable {
			known := strings.IndexByte(flag.verbs, k.verb) >= 0
			for _, name := range strings.Fields(flag.names) {
				if regexp.MustCompile(`(?m)^ .*`+regexp.QuoteMeta(name)+`[ ,\n]`).MatchString(r.out) != known && known {
					t.Errorf("%s: the help does not name %s", k.name, name)
				}
			}
		}
	}
}

func TestDefaultsComeFromAFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	config := "# comment\n-p 1\n\n--topic from/file\n-D publish user-property a b\n"
	if err := os.WriteFile(filepath.Join(dir, "mosquitto_pub"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &clientFlags{program: "mosquitto_pub", verb: 'p'}
	if err := f.parse([]string{"-m", "x", "-p", "2"}); err != nil {
		t.Fatal(err)
	}
	if f.port != 2 || f.topics[0] != "from/file" || len(f.props.publish) == 0 {
		t.Errorf("port %d, topics %q", f.port, f.topics)
	}
}

func TestServerFollowsFromTheFlags(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	for line, want := range map[string]string{
		"":                             "mqtt://127.0.0.1",
		"-h h -p 5":                    "mqtt://h:5",
		"-h ::1":                       "mqtt://[::1]",
		"-h h -p 8883":                 "mqtts://h:8883",
		"-h h --cafile x":              "mqtts://h",
		"--ws -h h -p 80":              "ws://h:80",
		"--ws --tls-use-os-certs -h h": "wss://h",
		"--unix /run/x.sock":           "unix:///run/x.sock",
		"-L mqtts://u:p@h:9/a/b":       "mqtts://h:9",
		"-L wss://h/a":                 "wss://h",
	} {
		f := &clientFlags{program: "none", verb: 'p', host: "127.0.0.1"}
		if err := f.parse(append(strings.Fields(line), "-t", "t", "-m", "m")); err != nil {
			t.Errorf("%s: %v", line, err)
		} else if got := f.server(); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}

// A SOCKS5 proxy of the test's own, between us and a broker that only sends a CONNACK that refuses.
func TestProxyIsUsed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		b := make([]byte, 256)
		step := func(n int, answer ...byte) string {
			io.ReadFull(conn, b[:n]) // a short read shows in what is asked
			conn.Write(answer)
			return string(b[:n])
		}
		step(3, 5, 2)
		login := step(1+1+3+1+6, 1, 0)
		to := step(4+1+len("far.example")+2, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0)
		asked <- login + to
		io.ReadFull(conn, b[:2])
		io.CopyN(io.Discard, conn, int64(b[1]))
		conn.Write([]byte{0x20, 2, 0, 5})
		io.Copy(io.Discard, conn)
	}()
	r := ours("", "mosquitto_pub", "-h", "far.example", "-t", "t", "-m", "x", "--proxy", "socks5h://ann:secret@"+l.Addr().String())
	if want := "\x01\x03ann\x06secret\x05\x01\x00\x03\x0bfar.example\x07\x5b"; <-asked != want || r.code != 5 {
		t.Errorf("%+v", r)
	}
}
