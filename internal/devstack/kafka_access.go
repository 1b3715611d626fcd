package devstack

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// KafkaListener is one more way into a broker.
type KafkaListener struct {
	// KeyStore is a PEM file with the broker's key (PKCS #8) and certificates, for TLS. "" is a
	// connection without it.
	KeyStore string
	// ClientCA is a PEM file of the authorities whose certificates clients must show. "" asks for
	// none.
	ClientCA string
	// SASL asks clients for user and password.
	SASL bool
	// Advertise is the host:port advertised to clients, such as that of a proxy. "" is where the
	// broker listens.
	Advertise string
}

func (l KafkaListener) protocol() string {
	switch {
	case l.SASL && l.KeyStore != "":
		return "SASL_SSL"
	case l.SASL:
		return "SASL_PLAINTEXT"
	case l.KeyStore != "":
		return "SSL"
	}
	return "PLAINTEXT"
}

// ListenerAddr returns the host:port of one of the listeners in the configuration.
func (k *Kafka) ListenerAddr(name string) string { return joinAddr(k.host, k.listenerPorts[name]) }

func (k *Kafka) probeListeners() (map[string]int, error) {
	ports := map[string]int{}
	for name := range k.cfg.Listeners {
		port, err := probePort(k.host, 0)
		if err != nil {
			return nil, err
		}
		ports[name] = port
	}
	return ports, nil
}

// listenerTaken reports whether another program took a listener's port, or two of ours were given
// the same one.
func (k *Kafka) listenerTaken() bool {
	seen := map[int]bool{k.port: true, k.controllerPort: true}
	for _, port := range k.listenerPorts {
		if seen[port] || isTaken(k.host, port) {
			return true
		}
		seen[port] = true
	}
	return false
}

// secure adds listeners, users and rights to the broker's properties.
func (k *Kafka) secure(p map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(k.cfg.Listeners)) {
		l := k.cfg.Listeners[name]
		addr, advertise := k.ListenerAddr(name), l.Advertise
		setDefault(&advertise, addr)
		p["listeners"] += "," + name + "://" + addr
		p["advertised.listeners"] += "," + name + "://" + advertise
		p["listener.security.protocol.map"] += "," + name + ":" + l.protocol()
		prefix := "listener.name." + strings.ToLower(name) + "."
		if l.KeyStore != "" {
			p[prefix+"ssl.keystore.type"] = "PEM"
			p[prefix+"ssl.keystore.location"] = filepath.ToSlash(l.KeyStore)
		}
		if l.ClientCA != "" {
			p[prefix+"ssl.client.auth"] = "required"
			p[prefix+"ssl.truststore.type"] = "PEM"
			p[prefix+"ssl.truststore.location"] = filepath.ToSlash(l.ClientCA)
		}
		if l.SASL {
			p[prefix+"sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
			p[prefix+
				"plain.sasl.jaas.config"] = "org.apache.kafka.common.security.plain.PlainLoginModule required" +
				k.plainUsers() + ";"
			for _, mechanism := range scramMechanisms {
				p[prefix+strings.ToLower(mechanism)+
					".sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
			}
		}
	}
	for user, password := range k.cfg.Users {
		if !plainName.MatchString(user) || !plainName.MatchString(password) {
			return fmt.Errorf("user %q: want 1 to 32 letters, digits, _ or - in name and password", user)
		}
	}
	if k.cfg.Authorize {
		p["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
		p["super.users"] = "User:ANONYMOUS" // who comes by a plain listener
	}
	return nil
}

var scramMechanisms = []string{"SCRAM-SHA-256", "SCRAM-SHA-512"}

func (k *Kafka) plainUsers() string {
	var b strings.Builder
	for _, user := range slices.Sorted(maps.Keys(k.cfg.Users)) {
		fmt.Fprintf(&b, ` user_%s="%s"`, user, k.cfg.Users[user])
	}
	return b.String()
}

// scramUsers returns the options of the storage tool that make the users known to SCRAM.
func (k *Kafka) scramUsers() []string {
	var options []string
	for _, user := range slices.Sorted(maps.Keys(k.cfg.Users)) {
		for _, mechanism := range scramMechanisms {
			options = append(options, "--add-scram",
				fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, user, k.cfg.Users[user]))
		}
	}
	return options
}
