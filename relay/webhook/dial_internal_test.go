package webhook

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

func TestGuard(t *testing.T) {
	t.Parallel()
	none := guard(nil)
	some := guard([]netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32"), netip.MustParsePrefix("::1/128")})
	for address, allowed := range map[string]struct{ none, some bool }{
		"8.8.8.8":                {true, true},
		"93.184.216.34":          {true, true},
		"2606:2800:220:1::1":     {true, true},
		"127.0.0.1":              {false, false},
		"127.8.9.1":              {false, false},
		"0.0.0.0":                {false, false},
		"10.0.0.1":               {false, false},
		"10.1.0.1":               {false, true},
		"172.16.0.1":             {false, false},
		"172.31.255.255":         {false, false},
		"192.168.1.1":            {false, false},
		"100.64.0.1":             {false, false}, // carrier-grade NAT
		"100.100.100.200":        {false, false}, // metadata, Alibaba
		"169.254.169.254":        {false, false}, // metadata, most
		"168.63.129.16":          {false, false}, // metadata, Azure
		"192.0.0.192":            {false, false}, // metadata, Oracle
		"198.18.0.1":             {false, false},
		"224.0.0.1":              {false, false},
		"255.255.255.255":        {false, false},
		"::":                     {false, false},
		"::1":                    {false, true},
		"fe80::1":                {false, false},
		"fd00:ec2::254":          {false, false}, // metadata, AWS
		"fd00:1::1":              {false, true},
		"ff02::1":                {false, false},
		"64:ff9b::7f00:1":        {false, false}, // NAT64 of 127.0.0.1
		"2002:7f00:1::1":         {false, false}, // 6to4 of 127.0.0.1
		"::ffff:127.0.0.1":       {false, false},
		"::ffff:169.254.169.254": {false, false},
		"::ffff:10.0.0.1":        {false, false},
	} {
		at := net.JoinHostPort(address, "443")
		network := "tcp4"
		if netip.MustParseAddr(address).Is6() {
			network = "tcp6"
		}
		if err := none(network, at, nil); (err == nil) != allowed.none || err != nil && !errors.Is(err, errRefused) {
			t.Errorf("%s: %v", address, err)
		}
		if err := some(network, at, nil); (err == nil) != allowed.some {
			t.Errorf("%s, with some allowed: %v", address, err)
		}
	}
	if err := none("unix", "/run/docker.sock", nil); err == nil {
		t.Error("a socket is allowed")
	}
}
