/* Frames faster than any socket makes them: the kernel is given one, and has an interface receive it again and again.
 *
 *   frames INDEX COUNT datagram|handshake MAC
 *
 * The interface INDEX of this namespace, 10.99.0.1, receives COUNT frames: datagrams of one byte to port 79, or SYNs to it,
 * each from one of 2^30 ends in 10.97.0.0/17. Says how many it was in how many microseconds.
 */
#include <arpa/inet.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define INSN(code_, dst, src, off_, imm_) \
    {.code = code_, .dst_reg = dst, .src_reg = src, .off = off_, .imm = imm_}

enum { ETHERNET = 14, IP = 20, IP_ID = ETHERNET + 4, IP_SOURCE_LOW = ETHERNET + 14, TCP = ETHERNET + IP, URGENT = TCP + 18 };

static int bpf(int command, union bpf_attr *attributes)
{
    int outcome = syscall(SYS_bpf, command, attributes, sizeof *attributes);
    if (outcome < 0) {
        perror("bpf");
        exit(1);
    }
    return outcome;
}

/* Lets each frame pass; of a SYN, it draws port and address first. What it adds there it takes from fields that nobody reads
 * (the IP header's identification, the urgent pointer), so that the checksums stay right. */
static int program(int draws)
{
    struct bpf_insn insns[] = {
        INSN(BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0),
        INSN(BPF_LDX | BPF_MEM | BPF_W, 7, 6, 0, 0),
        INSN(BPF_LDX | BPF_MEM | BPF_W, 8, 6, 4, 0),
        INSN(BPF_ALU64 | BPF_MOV | BPF_X, 2, 7, 0, 0),
        INSN(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, URGENT + 2),
        INSN(BPF_JMP | BPF_JGT | BPF_X, 2, 8, 12, 0),
        INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_get_prandom_u32),
        INSN(BPF_ALU64 | BPF_MOV | BPF_X, 1, 0, 0, 0),
        INSN(BPF_ALU64 | BPF_AND | BPF_K, 1, 0, 0, 0x7fff),
        INSN(BPF_ALU64 | BPF_RSH | BPF_K, 0, 0, 0, 17),
        INSN(BPF_STX | BPF_MEM | BPF_H, 7, 1, TCP, 0),
        INSN(BPF_STX | BPF_MEM | BPF_H, 7, 0, IP_SOURCE_LOW, 0),
        INSN(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 0x7fff),
        INSN(BPF_ALU64 | BPF_SUB | BPF_X, 2, 0, 0, 0),
        INSN(BPF_STX | BPF_MEM | BPF_H, 7, 2, IP_ID, 0),
        INSN(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, 0x7fff),
        INSN(BPF_ALU64 | BPF_SUB | BPF_X, 2, 1, 0, 0),
        INSN(BPF_STX | BPF_MEM | BPF_H, 7, 2, URGENT, 0),
        INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_PASS),
        INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
    };
    enum { PASS = 2, ALL = sizeof insns / sizeof *insns };
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_XDP;
    attributes.insns = (uintptr_t)(draws ? insns : insns + ALL - PASS);
    attributes.insn_cnt = draws ? ALL : PASS;
    attributes.license = (uintptr_t) "GPL";
    return bpf(BPF_PROG_LOAD, &attributes);
}

/* The sum of the Internet's checksum (RFC 1071), over words as they lie. */
static uint32_t sum(const uint8_t *bytes, int count, uint32_t sum)
{
    for (int at = 0; at < count; at += 2) {
        uint16_t word = 0;
        memcpy(&word, bytes + at, count - at < 2 ? 1 : 2);
        sum += word;
    }
    return sum;
}

static void put_checksum(uint8_t *at, uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    uint16_t checksum = ~sum;
    memcpy(at, &checksum, 2);
}

int main(int count, char **words)
{
    if (count != 5)
        return 2;
    int index = atoi(words[1]), syn = !strcmp(words[3], "handshake");
    unsigned frames = strtoul(words[2], NULL, 10), mac[6];
    if (sscanf(words[4], "%x:%x:%x:%x:%x:%x", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6)
        return 2;

    int behind = syn ? 20 : 9;
    uint8_t frame[64] = {0}, *ip = frame + ETHERNET, *inner = ip + IP;
    for (int at = 0; at < 6; at++)
        frame[at] = mac[at];
    frame[6] = 2;
    frame[12] = 8;
    uint16_t length = htons(IP + behind), port = htons(79), low = 0x7fff, drawn = 0xfffe;
    ip[0] = 0x45;
    memcpy(ip + 2, &length, 2);
    ip[8] = 64;
    ip[9] = syn ? 6 : 17;
    inet_pton(AF_INET, "10.97.0.0", ip + 12);
    inet_pton(AF_INET, "10.99.0.1", ip + 16);
    if (syn) {
        memcpy(ip + 4, &low, 2);
        inner[12] = 0x50;
        inner[13] = 2;
        inner[14] = 0xff;
        memcpy(inner + 18, &drawn, 2);
    } else {
        uint16_t bytes = htons(behind);
        memcpy(inner, &port, 2);
        memcpy(inner + 4, &bytes, 2);
    }
    memcpy(inner + 2, &port, 2);
    put_checksum(ip + 10, sum(ip, IP, 0));
    uint32_t pseudo = sum(ip + 12, 8, htons(ip[9]) + htons(behind));
    put_checksum(inner + (syn ? 16 : 6), sum(inner, behind, pseudo));

    /* An interface gives frames to such programs once it has one itself. */
    int passes = program(syn);
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.link_create.prog_fd = program(0);
    attributes.link_create.target_ifindex = index;
    attributes.link_create.attach_type = BPF_XDP;
    if (syscall(SYS_bpf, BPF_LINK_CREATE, &attributes, sizeof attributes) < 0)
        fprintf(stderr, "the interface has a program already\n");

    struct xdp_md context = {.data_end = ETHERNET + IP + behind, .ingress_ifindex = index};
    memset(&attributes, 0, sizeof attributes);
    attributes.test.prog_fd = passes;
    attributes.test.data_in = (uintptr_t)frame;
    attributes.test.data_size_in = ETHERNET + IP + behind;
    attributes.test.ctx_in = (uintptr_t)&context;
    attributes.test.ctx_size_in = sizeof context;
    attributes.test.repeat = frames;
    attributes.test.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
    struct timespec begun, ended;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    bpf(BPF_PROG_TEST_RUN, &attributes);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("frames=%u us=%lld\n", frames,
           (ended.tv_sec - begun.tv_sec) * 1000000LL + (ended.tv_nsec - begun.tv_nsec) / 1000);
    return 0;
}
