/* ISA-L under our own names: no header of the library or of the system is visible to Swift. */
#ifndef RAWSTOR_SHIM_ISAL_H
#define RAWSTOR_SHIM_ISAL_H

unsigned int crc32_iscsi(unsigned char *buffer, int length, unsigned int initial);

/* CRC32C of `length` bytes, continuing from `previous` (0 to begin). ISA-L takes and returns the inverted value. */
static inline unsigned int rs_crc32c(unsigned int previous, const void *bytes, int length) {
    return ~crc32_iscsi((unsigned char *)bytes, length, ~previous);
}

#endif
