/* What other software does to programs on interfaces: takes them off, or puts its own before them.
 *
 *   others take-off PIN        detaches the link that is pinned there
 *   others come-before INDEX   drops what the interface receives, before all other programs, until its input ends
 */
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of newer headers than Debian's. */
enum { TCX_INGRESS = 46, TCX_BEFORE = 1 << 3, TCX_DROP = 2 };

struct link_create {
    uint32_t program, target, type, flags, relative, unused;
    uint64_t revision;
};

static int bpf(int command, void *attributes, unsigned bytes)
{
    int outcome = syscall(SYS_bpf, command, attributes, bytes);
    if (outcome < 0) {
        perror("bpf");
        exit(1);
    }
    return outcome;
}

int main(int count, char **words)
{
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    if (count != 3)
        return 2;
    if (!strcmp(words[1], "take-off")) {
        attributes.pathname = (uintptr_t)words[2];
        int link = bpf(BPF_OBJ_GET, &attributes, sizeof attributes);
        memset(&attributes, 0, sizeof attributes);
        attributes.link_detach.link_fd = link;
        bpf(BPF_LINK_DETACH, &attributes, sizeof attributes);
        return 0;
    }
    struct bpf_insn drop[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = TCX_DROP},
        {.code = BPF_JMP | BPF_EXIT},
    };
    attributes.prog_type = BPF_PROG_TYPE_SCHED_CLS;
    attributes.insns = (uintptr_t)drop;
    attributes.insn_cnt = 2;
    attributes.license = (uintptr_t) "GPL";
    strcpy(attributes.prog_name, "dropper");
    struct link_create create = {
        .program = bpf(BPF_PROG_LOAD, &attributes, sizeof attributes),
        .target = atoi(words[2]),
        .type = TCX_INGRESS,
        .flags = TCX_BEFORE,
    };
    bpf(BPF_LINK_CREATE, &create, sizeof create);
    puts("there");
    fflush(stdout);
    /* The program goes with this process. */
    char input;
    while (read(0, &input, 1) > 0)
        ;
    return 0;
}
