// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/noctule/noctule/client"
	"github.com/noctule/noctule/mqtt"
)

// commandProperties are those of -D, by where they go.
type commandProperties struct {
	given bool

	receiveMaximum, aliasesIn, alias uint16
	maxPacket                        uint32
	responseInformation              bool
	noProblemInformation             bool
	authMethod, authData             string
	expiry                           *uint32 // of connect
	willDelay                        time.Duration
	identifier                       uint32
	user                             map[string][]client.UserProperty // by command
	publish, will, disconnect        mqtt.Properties
}

// propertyCommands are the commands of -D and the properties that they know, beside user-property.
var propertyCommands = map[string][]mqtt.PropertyID{
	"connect": {
		mqtt.PropAuthenticationData, mqtt.PropAuthenticationMethod, mqtt.PropMaximumPacketSize, mqtt.PropReceiveMaximum,
		mqtt.PropRequestProblemInformation, mqtt.PropRequestResponseInformation, mqtt.PropSessionExpiryInterval,
		mqtt.PropTopicAliasMaximum,
	},
	"publish":   append(messageProperties, mqtt.PropTopicAlias),
	"will":      append(messageProperties, mqtt.PropWillDelayInterval),
	"subscribe": {mqtt.PropSubscriptionIdentifier}, "unsubscribe": {}, "disconnect": {mqtt.PropSessionExpiryInterval},
	"auth": {}, "puback": {}, "pubrec": {}, "pubrel": {}, "pubcomp": {},
}

var messageProperties = slices.Clip([]mqtt.PropertyID{
	mqtt.PropContentType, mqtt.PropCorrelationData, mqtt.PropMessageExpiryInterval, mqtt.PropPayloadFormatIndicator,
	mqtt.PropResponseTopic,
})

// propertyBits is the size of the number in a property; 0 is text.
var propertyBits = map[mqtt.PropertyID]int{
	mqtt.PropMaximumPacketSize: 32, mqtt.PropReceiveMaximum: 16, mqtt.PropRequestProblemInformation: 1,
	mqtt.PropRequestResponseInformation: 1, mqtt.PropSessionExpiryInterval: 32, mqtt.PropTopicAliasMaximum: 16,
	mqtt.PropMessageExpiryInterval: 32, mqtt.PropPayloadFormatIndicator: 1, mqtt.PropTopicAlias: 16,
	mqtt.PropWillDelayInterval: 32, mqtt.PropSubscriptionIdentifier: 28,
}

// commandName is the name of a property on the command line: content-type for Content Type.
func commandName(id mqtt.PropertyID) string {
	return strings.ReplaceAll(strings.ToLower(id.String()), " ", "-")
}

// take takes the arguments that follow -D and returns how many they are.
func (p *commandProperties) take(args []string) (int, error) {
	if len(args) < 3 {
		return 0, errors.New("-D needs a command, the name of a property and its value")
	}
	command, name, value := strings.ToLower(args[0]), strings.ToLower(args[1]), args[2]
	known, ok := propertyCommands[command]
	if !ok {
		return 0, fmt.Errorf("-D: invalid command %q", args[0])
	}
	p.given = true
	if name == "user-property" {
		if len(args) < 4 {
			return 0, errors.New("-D: user-property needs a key and a value")
		}
		p.addUser(command, client.UserProperty{Name: value, Value: args[3]})
		return 4, nil
	}
	for _, id := range known {
		if commandName(id) == name {
			return 3, p.set(command, id, value)
		}
	}
	return 0, fmt.Errorf("-D: %s has no property %q", command, args[1])
}

func (p *commandProperties) addUser(command string, u client.UserProperty) {
	switch command {
	case "publish":
		p.publish = mqtt.AppendPropUser(p.publish, u.Name, u.Value)
	case "will":
		p.will = mqtt.AppendPropUser(p.will, u.Name, u.Value)
	case "disconnect":
		p.disconnect = mqtt.AppendPropUser(p.disconnect, u.Name, u.Value)
	default:
		if p.user == nil {
			p.user = make(map[string][]client.UserProperty)
		}
		p.user[command] = append(p.user[command], u)
	}
}

func (p *commandProperties) set(command string, id mqtt.PropertyID, value string) error {
	var n uint64
	if bits := propertyBits[id]; bits != 0 {
		var err error
		if n, err = strconv.ParseUint(value, 10, bits); err != nil {
			return fmt.Errorf("-D: %s must be between 0 and %d", commandName(id), uint64(1)<<bits-1)
		}
	} else if len(value) > mqtt.MaxString {
		return fmt.Errorf("-D: %s is longer than 65535 bytes", commandName(id))
	}
	if n == 0 {
		switch id {
		case mqtt.PropReceiveMaximum, mqtt.PropMaximumPacketSize, mqtt.PropTopicAlias, mqtt.PropSubscriptionIdentifier:
			return fmt.Errorf("-D: %s must not be 0", commandName(id))
		}
	}
	switch command {
	case "connect":
		p.setConnect(id, value, n)
	case "publish":
		if id == mqtt.PropTopicAlias {
			p.alias = uint16(n)
			break
		}
		p.publish = appendProperty(p.publish, id, value, n)
	case "will":
		if id == mqtt.PropWillDelayInterval {
			p.willDelay = time.Duration(n) * time.Second
			break
		}
		p.will = appendProperty(p.will, id, value, n)
	case "subscribe":
		p.identifier = uint32(n)
	case "disconnect":
		p.disconnect = appendProperty(p.disconnect, id, value, n)
	}
	return nil
}

func (p *commandProperties) setConnect(id mqtt.PropertyID, value string, n uint64) {
	switch id {
	case mqtt.PropAuthenticationMethod:
		p.authMethod = value
	case mqtt.PropAuthenticationData:
		p.authData = value
	case mqtt.PropMaximumPacketSize:
		p.maxPacket = uint32(n)
	case mqtt.PropReceiveMaximum:
		p.receiveMaximum = uint16(n)
	case mqtt.PropTopicAliasMaximum:
		p.aliasesIn = uint16(n)
	case mqtt.PropRequestResponseInformation:
		p.responseInformation = n == 1
	case mqtt.PropRequestProblemInformation:
		p.noProblemInformation = n == 0
	case mqtt.PropSessionExpiryInterval:
		p.expiry = new(uint32(n))
	}
}

func appendProperty(dst mqtt.Properties, id mqtt.PropertyID, value string, n uint64) mqtt.Properties {
	switch propertyBits[id] {
	case 1:
		return mqtt.AppendPropByte(dst, id, byte(n))
	case 32:
		return mqtt.AppendPropUint32(dst, id, uint32(n))
	}
	return mqtt.AppendPropString(dst, id, value)
}
