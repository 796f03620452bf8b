// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/client"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/topic"
)

// Exit codes of pub, sub and rr, those of Mosquitto's programs. A CONNACK that refuses ends with its own code.
const (
	exitError   = 1  // wrong flags, no connection, a file that cannot be read
	exitLost    = 7  // the connection ended
	exitTimeout = 27 // -W
)

// clientFlags are the command line of pub, sub and rr. Its grammar is that of Mosquitto's programs, which package pflag does not
// have: -h is the host, -D takes three or four arguments.
type clientFlags struct {
	program string // as the user called it
	verb    byte   // p, s or r
	in      io.Reader
	out     io.Writer
	words   io.Writer // for people

	host, unix, bind       string
	port                   int
	ws                     bool
	scheme                 string // of -L; empty = by the other flags
	username               string
	password               *string
	id, idPrefix           string
	version                mqtt.Version
	keepAlive              time.Duration
	keepSession            bool // -c
	expiry                 *uint32
	debug, quiet, help     bool
	topics                 []string
	qos                    mqtt.QoS
	retain                 bool
	maxInflight            uint16
	props                  commandProperties
	will                   willFlags
	tls                    tlsFlags
	proxy                  string
	payload                payloadFlags
	repeat                 int
	repeatDelay            time.Duration
	response               string // rr -e
	count                  int
	timeout                time.Duration
	onlyRetained, noRetain bool
	removeRetained         bool
	retainAsPublished      bool
	retainHandling         byte
	exitAfterSubscribe     bool
	filterOut, unsubscribe []string
	chance                 float64 // in percent; 0 = all
	verbose, noEOL, pretty bool
	format                 *outputFormat
}

type willFlags struct {
	topic, payload string
	qos            mqtt.QoS
	retain, given  bool
}

func (f *clientFlags) setVersion(v string) error {
	switch strings.TrimPrefix(strings.ToLower(v), "mqttv") {
	case "5", "50":
		f.version = mqtt.V5
	case "311":
		f.version = mqtt.V311
	case "31":
		f.version = mqtt.V31
	default:
		return fmt.Errorf("invalid protocol version %q: there are 5, 311 and 31", v)
	}
	return nil
}

func (f *clientFlags) setKeepAlive(v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("invalid keepalive %q: it must be between 0 and 65535", v)
	}
	f.keepAlive = time.Duration(n) * time.Second
	if n == 0 {
		f.keepAlive = -1
	}
	return nil
}

func (f *clientFlags) setExpiry(v string) error {
	n := uint64(0xFFFFFFFF)
	if v != "-1" && v != "∞" {
		var err error
		if n, err = strconv.ParseUint(v, 10, 32); err != nil {
			return fmt.Errorf("invalid session expiry interval %q: it must be between 0 and 4294967295, or -1", v)
		}
	}
	f.expiry = new(uint32(n))
	return nil
}

func (f *clientFlags) addTopic(v string) error {
	if f.verb != 's' {
		f.topics = []string{v}
		if !topic.ValidName(v) {
			return fmt.Errorf("invalid topic name %q: it is empty, or has + or #", v)
		}
		return nil
	}
	f.topics = append(f.topics, v)
	return checkFilter(v)
}

func checkFilter(v string) error {
	_, err := topic.ParseFilter(v, 0)
	return err
}

func (f *clientFlags) addFilterOut(v string) error {
	f.filterOut = append(f.filterOut, v)
	return checkFilter(v)
}

func (f *clientFlags) addUnsubscribe(v string) error {
	f.unsubscribe = append(f.unsubscribe, v)
	return checkFilter(v)
}

func (f *clientFlags) setResponse(v string) error {
	f.response = v
	if !topic.ValidName(v) {
		return fmt.Errorf("invalid response topic %q: it is empty, or has + or #", v)
	}
	return nil
}

func (f *clientFlags) setRepeatDelay(v string) error {
	s, err := strconv.ParseFloat(v, 64)
	if err != nil || s < 0 || s > 1e9 {
		return fmt.Errorf("invalid repeat delay %q: it must be a number of seconds", v)
	}
	f.repeatDelay = time.Duration(s * float64(time.Second))
	return nil
}

func (f *clientFlags) setRetainHandling(v string) error {
	i := slices.Index([]string{"always", "new", "never"}, v)
	if i < 0 {
		return fmt.Errorf("invalid retain handling %q: there are always, new and never", v)
	}
	f.retainHandling = byte(i)
	return nil
}

func (f *clientFlags) setChance(v string) error {
	p, err := strconv.ParseFloat(v, 64)
	if err != nil || !(p >= 0.1 && p <= 100) {
		return fmt.Errorf("invalid random filter %q: it must be between 0.1 and 100", v)
	}
	f.chance = p
	return nil
}

func (f *clientFlags) setFormat(v string) (err error) {
	f.format, err = parseFormat(v)
	return err
}

// newClientCommand makes the command of a verb. run gets the flags, checked, and returns the exit code.
func newClientCommand(verb byte, use, short string, run func(*cobra.Command, *clientFlags) int) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, DisableFlagParsing: true}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f := &clientFlags{
			program: cmd.CommandPath(), verb: verb, host: "127.0.0.1", keepAlive: 60 * time.Second, repeat: 1,
			in: cmd.InOrStdin(), out: cmd.OutOrStdout(), words: cmd.ErrOrStderr(),
		}
		code := 0
		if err := f.parse(args); err != nil {
			fmt.Fprintf(f.words, "Error: %v.\n\nUse '%s --help' to see usage.\n", err, f.program)
			code = exitError
		} else if f.help {
			f.printHelp(cmd)
		} else {
			code = run(cmd, f)
		}
		if code != 0 {
			return &exit{code: code}
		}
		return nil
	}
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		f := &clientFlags{program: cmd.CommandPath(), verb: verb, out: cmd.OutOrStdout()}
		f.printHelp(cmd)
	})
	return cmd
}

// parse takes the file of defaults and the command line.
func (f *clientFlags) parse(args []string) error {
	file, err := f.defaults()
	if err != nil {
		return err
	}
	if err := f.take(file); err != nil {
		return fmt.Errorf("file of defaults: %w", err)
	}
	if err := f.take(args); err != nil {
		return err
	}
	if f.help {
		return nil
	}
	return f.complete()
}

// defaults reads ~/.config/NAME, where NAME is mosquitto_pub or noctule_pub, by how the program was called. Each line has a
// flag and what follows it.
func (f *clientFlags) defaults() ([]string, error) {
	dir := os.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := os.Getenv("HOME")
		if home == "" {
			return nil, nil
		}
		dir = filepath.Join(home, ".config")
	}
	file, err := os.Open(filepath.Join(dir, strings.ReplaceAll(f.program, " ", "_")))
	if err != nil {
		return nil, nil // there is none
	}
	defer file.Close()
	var args []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, found := strings.Cut(line, " ")
		args = append(args, name)
		switch value = strings.TrimSpace(value); {
		case name == "-D" || name == "--property":
			args = append(args, strings.Fields(value)...)
		case found:
			args = append(args, value)
		}
	}
	return args, lines.Err()
}

// take goes through arguments.
func (f *clientFlags) take(args []string) error {
	for len(args) > 0 {
		name, value, joined := args[0], "", false
		args = args[1:]
		if strings.HasPrefix(name, "--") {
			name, value, joined = strings.Cut(name, "=")
		}
		flag := f.lookup(name)
		switch {
		case flag == nil:
			return f.unknown(name)
		case name == "-D" || name == "--property":
			n, err := f.props.take(args)
			if err != nil {
				return err
			}
			args = args[n:]
			continue
		case name == "--version":
			fmt.Fprintf(f.out, "%s version %s\n", f.program, version())
			f.help, args = true, nil
			f.out = io.Discard
			continue
		case flag.arg == "" && joined:
			return fmt.Errorf("%s takes no argument", name)
		case flag.arg != "" && !joined:
			if len(args) == 0 {
				return fmt.Errorf("%s argument given but no %s specified", name, strings.ToLower(flag.arg))
			}
			value, args = args[0], args[1:]
		}
		if err := flag.set(f, value); err != nil {
			return err
		}
	}
	return nil
}

func (f *clientFlags) lookup(name string) *clientFlag {
	for i := range clientFlagTable {
		flag := &clientFlagTable[i]
		if strings.IndexByte(flag.verbs, f.verb) >= 0 && slices.Contains(strings.Fields(flag.names), name) {
			return flag
		}
	}
	return nil
}

// unknown names the flag that was probably meant.
func (f *clientFlags) unknown(name string) error {
	best, least := "", 3
	for _, flag := range clientFlagTable {
		for _, known := range strings.Fields(flag.names) {
			if strings.IndexByte(flag.verbs, f.verb) < 0 || !strings.HasPrefix(known, "--") {
				continue
			}
			if d := editDistance(name, known); d < least {
				best, least = known, d
			}
		}
	}
	if best != "" {
		return fmt.Errorf("unknown option '%s', did you mean %s?", name, best)
	}
	return fmt.Errorf("unknown option '%s'", name)
}

// editDistance counts the letters to insert, delete or change between two words.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// complete checks what the flags say together.
func (f *clientFlags) complete() error {
	if f.version == 0 {
		f.version = mqtt.V311
		if f.verb == 'r' || f.props.given {
			f.version = mqtt.V5
		}
	}
	switch {
	case f.props.given && f.version != mqtt.V5:
		return errors.New("properties exist in MQTT 5 only: leave out -V, or -D")
	case f.id != "" && f.idPrefix != "":
		return errors.New("-i and -I argument cannot be used together")
	case f.keepSession && f.id == "":
		return errors.New("you must provide a client id if you are using the -c option")
	case f.expiry != nil && *f.expiry == 0xFFFFFFFF && f.id == "":
		return errors.New("you must provide a client id if you are using an infinite session expiry interval")
	case f.will.given && f.will.topic == "":
		return errors.New("will payload, QoS and retain need --will-topic")
	case (f.tls.cert == "") != (f.tls.key == ""):
		return errors.New("--cert and --key must be given together")
	case f.password != nil && f.username == "" && f.version != mqtt.V5:
		return errors.New("a password without a user name (-u) exists in MQTT 5 only")
	case f.unix != "" && (f.ws || f.scheme != "" || f.proxy != ""):
		return errors.New("--unix cannot be used together with -L, --ws or --proxy")
	case f.noRetain && f.onlyRetained:
		return errors.New("-R and --retained-only cannot be used together")
	}
	if f.id == "" && f.idPrefix != "" {
		f.id = fmt.Sprintf("%s-%d", f.idPrefix, os.Getpid())
	}
	if f.id == "" && f.version != mqtt.V5 {
		f.id = randomID()
	}
	switch f.verb {
	case 'p':
		if len(f.topics) == 0 || f.payload.from == fromNowhere {
			return errors.New("both topic and message must be supplied")
		}
	case 's':
		if len(f.topics) == 0 && len(f.unsubscribe) == 0 {
			return errors.New("you must specify a topic to subscribe to")
		}
	case 'r':
		if len(f.topics) == 0 || f.payload.from == fromNowhere || f.response == "" {
			return errors.New("all of topic, message, and response topic must be supplied")
		}
	}
	return nil
}

// warn tells people something, unless they want no words.
func (f *clientFlags) warn(format string, args ...any) {
	if !f.quiet {
		fmt.Fprintf(f.words, format+"\n", args...)
	}
}

// failed reports the error of a connection and returns the exit code.
func (f *clientFlags) failed(err error) int {
	refusal, ok := errors.AsType[*client.ReasonError](err)
	switch {
	case ok && refusal.Packet == mqtt.CONNACK:
		f.warn("Connection error: Connection Refused: %s.", reasonText(refusal))
		if f.version == mqtt.V5 {
			return int(refusal.Code)
		}
		return int(refusal.Code.Connack3())
	case ok:
		f.warn("Error: %s.", reasonText(refusal))
		if refusal.Packet == mqtt.DISCONNECT {
			return exitLost
		}
		return exitError
	}
	f.warn("Error: %v", err)
	return exitError
}

// reasonText is a reason code in words, with those of the server and the server that it points to.
func reasonText(e *client.ReasonError) string {
	s := strings.ToLower(e.Code.String())
	if r := e.Reason(); r != "" {
		s += " (" + r + ")"
	}
	if r := e.ServerReference(); r != "" {
		s += ", use " + r
	}
	return s
}
