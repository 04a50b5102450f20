package webhook

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"code.dny.dev/ssrf"
)

// azureMetadata answers metadata to machines of Azure, and looks like an address of the internet.
var azureMetadata = netip.MustParsePrefix("168.63.129.16/32")

// errRefused says that an address is refused.
var errRefused = errors.New("address is refused")

// guard returns a function for net.Dialer.Control, which sees the address that is dialled, after names were resolved: what a name resolves
// to when somebody looks, and what it resolves to afterwards, may be two things.
func guard(allow []netip.Prefix) func(network, address string, _ syscall.RawConn) error {
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	guardian := ssrf.New(ssrf.WithAnyPort(), ssrf.WithDeniedV4Prefixes(azureMetadata), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))
	return func(network, address string, raw syscall.RawConn) error {
		if err := guardian.Safe(network, address, raw); err != nil {
			host, _, splitErr := net.SplitHostPort(address)
			if splitErr != nil {
				host = address
			}
			return fmt.Errorf("%w: %s is private, local or reserved: allow it if endpoints may be there", errRefused, host)
		}
		return nil
	}
}
