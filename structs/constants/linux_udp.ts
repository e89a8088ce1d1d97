// Constants of <linux/udp.h>.

// Values of UDP_ENCAP that <netinet/udp.h> leaves out.
export const UDP_ENCAP_RXRPC = 6;
export const TCP_ENCAP_ESPINTCP = 7;
