// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/internal/loadtest"
	"github.com/noctule/noctule/mqtt"
)

func init() { verbs = append(verbs, benchCommand) }

// Exit codes of bench, as those of verify; the command line is wrong with exitUsage.
const (
	exitBenchBroken      = exitBroken   // a promise was broken
	exitBenchUnconnected = exitUnjudged // not all clients could connect, or it could not run
)

// defaultPorts are those of the schemes.
var defaultPorts = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}

// benchFlags are what bench takes beside the options that it fills in itself.
type benchFlags struct {
	loadtest.Options
	url, host               string
	port                    int
	ws, tls                 bool
	secure                  tlsFlags
	version, clean, message string
	password                string
	interval, connectEvery  int // milliseconds
	connectRate             float64
	keepAlive, qos          int
	output, engine          string
	quiet                   bool
}

func benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench {conn | pub | sub} [flags]",
		Short: "Load a broker, and check what comes back",
		Long: `Load any MQTT broker with many clients, and tell latency, rates, and what was lost, came twice or came out of
order. The flags are those of emqtt_bench and mqttx bench where they agree. Each run ends by itself; the first SIGINT ends it
in order, with its report, the second at once.

` + benchExitCodes,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return &exit{code: exitUsage, err: errors.New("bench what? There are conn, pub and sub")}
		},
	}
	cmd.AddCommand(
		benchMode(loadtest.Conn, "Connect clients, and hold them", "  noctule bench conn -c 1000 -R 500\n  noctule bench conn -h broker.example -c 10000 -i 1 --time 60s"),
		benchMode(loadtest.Pub, "Publish, and receive with --subscribers", "  noctule bench pub -t bench/%i -c 100 -I 10 -q 1\n  noctule bench pub -t bench/%i -c 50 --subscribers 50 -I 0 -q 1 --time 10s -o json"),
		benchMode(loadtest.Sub, "Subscribe, and receive", "  noctule bench sub -t 'bench/#' -c 10 -q 1 --time 30s"),
	)
	return cmd
}

const benchExitCodes = `Exit codes: 0 all promises were kept, 1 one was broken (loss above QoS 0, wrong order, a message twice at QoS 0 or 2, no
acknowledgement, a connection cut), 2 the command line is wrong, 3 not all clients could connect, or it could not run.`

// benchMode is one verb of bench.
func benchMode(m loadtest.Mode, short, example string) *cobra.Command {
	f := &benchFlags{Options: loadtest.Defaults(m)}
	cmd := &cobra.Command{
		Use: string(m) + " [flags]", Short: short, Long: short + ".\n\n" + benchExitCodes, Example: example,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.complete(cmd); err != nil {
				return &exit{code: exitUsage, err: err}
			}
			return f.run(cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.addConnection(cmd)
	f.addLoad(cmd)
	return cmd
}

// addConnection adds what all modes have.
func (f *benchFlags) addConnection(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.url, "url", "", "mqtt(s)://, ws(s)://[`USER:PASSWORD@]HOST:PORT`[/path], instead of -h and -p")
	fs.StringVarP(&f.host, "host", "h", "127.0.0.1", "`HOST` of the broker")
	fs.IntVarP(&f.port, "port", "p", 0, "`PORT`; 1883, 8883 with TLS, 80 or 443 with WebSocket if not given")
	fs.BoolVar(&f.ws, "ws", false, "use WebSocket")
	fs.BoolVarP(&f.tls, "ssl", "S", false, "use TLS, with the certificates that the system trusts")
	fs.StringVar(&f.secure.caFile, "cafile", "", "trust the certificates of this `FILE`; use TLS")
	fs.StringVar(&f.secure.cert, "cert", "", "`FILE` with the certificate of the clients")
	fs.StringVar(&f.secure.key, "key", "", "`FILE` with its key")
	fs.BoolVar(&f.secure.insecure, "insecure", false, "do not check the name in the broker's certificate")
	fs.StringVarP(&f.Username, "username", "u", "", "user `NAME`; %i is the number of the client")
	fs.StringVarP(&f.password, "password", "P", "", "`PASSWORD`")
	fs.StringVarP(&f.version, "protocol-version", "V", "5", "`VERSION` of MQTT: 3, 4 or 5 (31, 311, 3.1.1, 5.0)")
	fs.IntVarP(&f.keepAlive, "keepalive", "k", int(f.KeepAlive/time.Second), "`SECONDS`; 0 is none")
	fs.StringVarP(&f.clean, "clean", "C", "true", "`BOOL`: begin with no session, and leave none")
	fs.StringVar(&f.Prefix, "prefix", "", "`TEXT` that client identifiers begin with; a random one if not given")
	fs.IntVarP(&f.First, "startnumber", "n", 0, "number clients from `N`+1 on")
	fs.IntVarP(&f.Count, "count", "c", f.Count, "`N` clients")
	fs.IntVarP(&f.connectEvery, "interval", "i", int(f.ConnectInterval/time.Millisecond), "`MILLISECONDS` between two connects")
	fs.Float64VarP(&f.connectRate, "connrate", "R", 0, "connects a second, instead of -i")
	fs.DurationVar(&f.Time, "time", f.Time, "end so `LONG` after all are connected")
	fs.DurationVar(&f.Within, "connect-timeout", f.Within, "how `LONG` one client may take to connect")
	fs.StringVar(&f.engine, "engine", "auto", "`ENGINE`: epoll (Linux), client (the client library), or auto")
	fs.StringVarP(&f.output, "output", "o", "table", "`FORMAT` of the report: table or json")
	fs.BoolVar(&f.quiet, "quiet", false, "do not tell the progress")
}

// addLoad adds what pub and sub have.
func (f *benchFlags) addLoad(cmd *cobra.Command) {
	if f.Mode == loadtest.Conn {
		return
	}
	fs := cmd.Flags()
	fs.StringVarP(&f.Topic, "topic", "t", "", "`TOPIC`; %i is the number of the client, %c its identifier, %u its user name")
	fs.IntVarP(&f.qos, "qos", "q", 0, "`QOS`: 0, 1 or 2")
	fs.Uint64VarP(&f.Limit, "limit", "L", 0, "end after `N` messages of all clients; 0 is no limit")
	fs.DurationVar(&f.Patience, "patience", f.Patience, "at the end, how `LONG` nothing may come before what is missing counts as lost")
	if f.Mode != loadtest.Pub {
		return
	}
	fs.IntVarP(&f.Size, "size", "s", f.Size, fmt.Sprintf("`BYTES` of payload; from %d on messages can be checked", loadtest.StampSize))
	fs.StringVarP(&f.message, "message", "m", "", "`TEXT` to publish instead; it cannot be checked")
	fs.BoolVar(&f.Retain, "retain", false, "have the broker retain it")
	fs.IntVarP(&f.interval, "interval-of-msg", "I", int(f.Interval/time.Millisecond), "`MILLISECONDS` between two messages of a client; 0 is as fast as it goes")
	fs.Float64VarP(&f.Rate, "rate", "r", 0, "messages a second of all clients, instead of -I")
	fs.IntVarP(&f.Window, "inflight", "F", f.Window, "`N` messages above QoS 0 under way for each client")
	fs.IntVar(&f.Subscribers, "subscribers", 0, "`N` clients that receive what is published, and check it; the topics are shared out among them")
}

// complete turns flags into options.
func (f *benchFlags) complete(cmd *cobra.Command) (err error) {
	fs := cmd.Flags()
	if f.Server, err = f.server(cmd); err != nil {
		return err
	}
	if f.Version, err = benchVersion(f.version); err != nil {
		return err
	}
	if f.Clean, err = strconv.ParseBool(f.clean); err != nil {
		return fmt.Errorf("-C has to be true or false, not %q", f.clean)
	}
	if fs.Changed("password") {
		f.Password = []byte(f.password)
	}
	if fs.Changed("message") {
		f.Message = []byte(f.message)
	}
	f.KeepAlive = time.Duration(f.keepAlive) * time.Second
	f.ConnectInterval = time.Duration(f.connectEvery) * time.Millisecond
	if f.connectRate < 0 {
		return errors.New("-R cannot be negative")
	}
	if f.connectRate > 0 {
		f.ConnectInterval = time.Duration(float64(time.Second) / f.connectRate)
	}
	if f.qos < 0 || f.qos > 2 {
		return fmt.Errorf("there is no QoS %d", f.qos)
	}
	f.QoS = mqtt.QoS(f.qos)
	if f.Mode == loadtest.Pub {
		f.Interval = time.Duration(f.interval) * time.Millisecond
	}
	if f.output != "table" && f.output != "json" {
		return fmt.Errorf("-o has to be table or json, not %q", f.output)
	}
	switch f.engine {
	case "auto":
	case "client":
		f.Engine = loadtest.Library
	case "epoll":
		f.Engine = loadtest.Epoll
	default:
		return fmt.Errorf("--engine has to be auto, epoll or client, not %q", f.engine)
	}
	return f.Check()
}

// server says where the broker is, and how to be sure of it.
func (f *benchFlags) server(cmd *cobra.Command) (*url.URL, error) {
	u := &url.URL{Scheme: "mqtt", Host: f.host}
	secure := f.tls || f.secure.caFile != "" || f.secure.cert != "" || f.secure.insecure || f.port == 8883
	switch {
	case f.ws && secure:
		u.Scheme = "wss"
	case f.ws:
		u.Scheme = "ws"
	case secure:
		u.Scheme = "mqtts"
	}
	port := defaultPorts[u.Scheme]
	if f.port != 0 {
		port = strconv.Itoa(f.port)
	}
	u.Host = net.JoinHostPort(f.host, port)
	if f.url != "" {
		var err error
		if u, err = f.parseURL(cmd); err != nil {
			return nil, err
		}
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("invalid port %q", u.Port())
	}
	if (u.Scheme == "ws" || u.Scheme == "wss") && u.Path == "" {
		u.Path = "/mqtt"
	}
	if (f.secure.cert == "") != (f.secure.key == "") {
		return nil, errors.New("--cert and --key go together")
	}
	var err error
	if u.Scheme == "mqtts" || u.Scheme == "wss" {
		f.TLS, err = f.secure.config(u.Hostname())
	}
	return u, err
}

// parseURL takes --url apart.
func (f *benchFlags) parseURL(cmd *cobra.Command) (*url.URL, error) {
	u, err := url.Parse(f.url)
	if err != nil {
		return nil, errors.New("--url: it cannot be understood") // the error would show the password
	}
	if alias, ok := map[string]string{"tcp": "mqtt", "ssl": "mqtts", "tls": "mqtts"}[u.Scheme]; ok {
		u.Scheme = alias
	}
	port, ok := defaultPorts[u.Scheme]
	if !ok || u.Hostname() == "" {
		return nil, fmt.Errorf("--url %s: it has to be mqtt://HOST, mqtts://, ws:// or wss://", u.Redacted())
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	if u.User != nil {
		f.Username = u.User.Username()
		if p, ok := u.User.Password(); ok && !cmd.Flags().Changed("password") {
			f.Password = []byte(p)
		}
		u.User = nil
	}
	return u, nil
}

// benchVersion takes what emqtt_bench and mqttx call the versions.
func benchVersion(s string) (mqtt.Version, error) {
	switch strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(s), "mqttv"), ".", "") {
	case "3", "31":
		return mqtt.V31, nil
	case "4", "311":
		return mqtt.V311, nil
	case "5", "50":
		return mqtt.V5, nil
	}
	return 0, fmt.Errorf("invalid protocol version %q: there are 3, 4 (3.1.1) and 5", s)
}

// run loads and prints.
func (f *benchFlags) run(out, words io.Writer) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	finish := make(chan struct{})
	f.Finish = finish
	defer catch(stop, finish)()
	terminal := isTerminal(os.Stderr)
	told := false
	if !f.quiet {
		f.Progress = func(p loadtest.Progress) {
			told = true
			if terminal {
				fmt.Fprintf(words, "\r%s\x1b[K", p)
			} else {
				fmt.Fprintln(words, p)
			}
		}
	}
	rep, err := loadtest.Run(ctx, f.Options)
	if told && terminal {
		fmt.Fprint(words, "\r\x1b[K")
	}
	if err != nil {
		return &exit{code: exitBenchUnconnected, err: err}
	}
	if f.output == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err = e.Encode(rep)
	} else {
		err = rep.Write(out)
	}
	switch {
	case err != nil:
		return &exit{code: exitBenchUnconnected, err: err}
	case rep.Failed > 0 || rep.Connected == 0 && !rep.Interrupted:
		return &exit{code: exitBenchUnconnected, err: fmt.Errorf("%d of %d clients could not connect", rep.Failed, rep.Clients)}
	case !rep.Kept:
		return &exit{code: exitBenchBroken}
	}
	return nil
}
