// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/client"
	"github.com/noctule/noctule/mqtt"
)

func init() { verbs = append(verbs, mosquittoPub) }

// mosquittoPub is noctule pub, and mosquitto_pub.
func mosquittoPub() *cobra.Command {
	return newClientCommand('p', "pub -t TOPIC {-m TEXT | -f FILE | -l | -n | -s} [flags]", "Publish messages", runPub)
}

// payloadSource says where the message comes from.
type payloadSource byte

const (
	fromNowhere payloadSource = iota
	fromText
	fromFile
	fromStdin
	fromLines
	fromNothing
)

type payloadFlags struct {
	from  payloadSource
	value string
}

func (p *payloadFlags) set(from payloadSource, value string) error {
	if p.from != fromNowhere {
		return errors.New("only one type of message can be sent at once")
	}
	p.from, p.value = from, value
	return nil
}

// read gives the message, unless it is lines.
func (p *payloadFlags) read(in io.Reader) ([]byte, error) {
	switch p.from {
	case fromText:
		return []byte(p.value), nil
	case fromFile:
		return os.ReadFile(p.value)
	case fromStdin:
		return io.ReadAll(in)
	}
	return nil, nil
}

// untilSignal ends with the first interrupt.
func untilSignal() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// leaveTime bounds a clean end.
const leaveTime = 5 * time.Second

// leave disconnects. What was published is out before.
func (f *clientFlags) leave(c *client.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	if err := c.CloseWith(ctx, mqtt.Disconnect{Properties: f.props.disconnect}); err != nil {
		f.warn("Error: disconnecting took too long")
	}
}

func runPub(_ *cobra.Command, f *clientFlags) int {
	ctx, cancel := untilSignal()
	defer cancel()
	payload, err := f.payload.read(f.in)
	if err != nil {
		f.warn("Error: %v", err)
		return exitError
	}
	o, err := f.options(true)
	if err != nil {
		return f.failed(err)
	}
	o.MaxInflight = f.maxInflight
	c, err := client.Dial(ctx, o)
	if err != nil {
		return f.failed(err)
	}
	defer f.leave(c)
	if f.payload.from == fromLines {
		return f.publishLines(ctx, c)
	}
	for i := range f.repeat {
		if i > 0 && f.repeatDelay > 0 {
			select {
			case <-time.After(f.repeatDelay):
			case <-ctx.Done():
				return 0
			}
		}
		t, err := c.PublishAsync(ctx, f.message(payload))
		if err == nil {
			err = t.Wait(ctx)
		}
		if err != nil {
			return f.unpublished(ctx, c, err)
		}
	}
	return 0
}

func (f *clientFlags) message(payload []byte) client.Message {
	return client.Message{
		Topic: f.topics[0], Payload: payload, QoS: f.qos, Retain: f.retain, Properties: f.props.publish,
	}
}

// publishLines publishes each line of standard input, with as many under way as the server takes.
func (f *clientFlags) publishLines(ctx context.Context, c *client.Client) int {
	lines := bufio.NewReader(f.in)
	for ctx.Err() == nil {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			if _, err := c.PublishAsync(ctx, f.message(bytes.TrimSuffix(line, []byte("\n")))); err != nil {
				return f.unpublished(ctx, c, err)
			}
		}
		if err != nil {
			break
		}
	}
	if err := c.Flush(ctx); err != nil {
		return f.unpublished(ctx, c, err)
	}
	return 0
}

// unpublished reports why a message did not get through, and returns the exit code. A refusal by the server is told and is no failure,
// as with mosquitto_pub.
func (f *clientFlags) unpublished(ctx context.Context, c *client.Client, err error) int {
	refusal, ok := errors.AsType[*client.ReasonError](err)
	switch {
	case ctx.Err() != nil:
		return 0
	case ok && (refusal.Packet == mqtt.PUBACK || refusal.Packet == mqtt.PUBREC):
		f.warn("Warning: Publish failed: %s.", reasonText(refusal))
		return 0
	case errors.Is(err, client.ErrClosed):
		<-c.Done()
		if _, ok := errors.AsType[*client.ReasonError](c.Err()); ok {
			f.failed(c.Err())
		} else {
			f.warn("Error: The connection was lost.")
		}
		return exitLost
	}
	f.warn("Error: %v", err)
	return exitError
}
