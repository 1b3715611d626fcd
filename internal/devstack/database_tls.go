package devstack

// DatabaseTLS sets how an external database server encrypts connections. The files are read when it
// starts, and again at FLUSH SSL, or MySQL's ALTER INSTANCE RELOAD TLS.
type DatabaseTLS struct {
	// PEM files: the authority of clients' certificates, the server's certificate and its key
	CA, Cert, Key string
	// Required refuses connections by TCP without TLS.
	Required bool
}

// options returns the server's options.
func (t *DatabaseTLS) options() []string {
	if t == nil {
		return nil
	}
	options := []string{"--ssl-ca=" + t.CA, "--ssl-cert=" + t.Cert, "--ssl-key=" + t.Key}
	if t.Required {
		options = append(options, "--require-secure-transport=ON")
	}
	return options
}
