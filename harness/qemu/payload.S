/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The payload: stands at kernel_phys_addr in the kernel's place, and tells what it was handed.
 *
 * Position independent, no IDT of its own: any fault is a triple fault and resets the machine. It comes
 * on in steps that need more and more to be right, and each leaves its mark before the next one:
 *   1. arrived: an `out`, no memory at all (RAX waits in DR0);
 *   2. registers: stored to REPORT, which needs that page mapped to itself;
 *   3. the load of [RSI], if the job has boot_params; 4. the probe loads, one by one; 5. done.
 * Any RSP will do, and any DS, ES and SS.
 */
#include "protocol.h"

#define MSR_EFER        0xC0000080
#define POISON          0x5BAD5BAD5BAD5BAD

        .text
        .code64
payload:
        mov     %rax, %dr0
        mov     $CMOS_ARRIVAL, %al
        out     %al, $CMOS_INDEX
        /*
         * In 64-bit mode one `movabs` to RAX, whose lowest byte is the job's arrival byte. In a 32-bit code
         * segment the same bytes are `dec %eax; mov $imm32, %eax; mov $WRONG_MODE, %al; jmp`.
         */
        .byte   0x48, 0xB8
arrival:
        .byte   NOT_ARRIVED, 0, 0, 0
        .byte   0xB0, WRONG_MODE, 0xEB, wrong_mode - (. + 1)
        out     %al, $CMOS_DATA
        jmp     report

        .code32
wrong_mode:
        out     %al, $CMOS_DATA
        cli
        hlt
        jmp     wrong_mode
        .code64

report: mov     $REPORT, %eax
        mov     %rbx, REGISTER_RBX(%rax)
        mov     %rcx, REGISTER_RCX(%rax)
        mov     %rdx, REGISTER_RDX(%rax)
        mov     %rsi, REGISTER_RSI(%rax)
        mov     %rdi, REGISTER_RDI(%rax)
        mov     %rbp, REGISTER_RBP(%rax)
        mov     %rsp, REGISTER_RSP(%rax)
        mov     %r8, REGISTER_R8(%rax)
        mov     %r9, REGISTER_R9(%rax)
        mov     %r10, REGISTER_R10(%rax)
        mov     %r11, REGISTER_R11(%rax)
        mov     %r12, REGISTER_R12(%rax)
        mov     %r13, REGISTER_R13(%rax)
        mov     %r14, REGISTER_R14(%rax)
        mov     %r15, REGISTER_R15(%rax)
        mov     %rax, %r8               /* no flag was touched so far */
        lea     REPORT_STACK_TOP(%r8), %rsp
        pushfq
        popq    REGISTER_RFLAGS(%r8)
        mov     %dr0, %rax
        mov     %rax, REGISTER_RAX(%r8)
        lea     payload(%rip), %rax
        mov     %rax, REGISTER_RIP(%r8)
        mov     %cr0, %rax
        mov     %rax, REGISTER_CR0(%r8)
        mov     %cr2, %rax
        mov     %rax, REGISTER_CR2(%r8)
        mov     %cr3, %rax
        mov     %rax, REGISTER_CR3(%r8)
        mov     %cr4, %rax
        mov     %rax, REGISTER_CR4(%r8)
        mov     %cs, REGISTER_CS(%r8)   /* 2 bytes each; the report was zeroed before */
        mov     %ds, REGISTER_DS(%r8)
        mov     %es, REGISTER_ES(%r8)
        mov     %fs, REGISTER_FS(%r8)
        mov     %gs, REGISTER_GS(%r8)
        mov     %ss, REGISTER_SS(%r8)
        str     REGISTER_TR(%r8)
        sldt    REGISTER_LDTR(%r8)
        sgdt    TABLE_GDTR(%r8)
        sidt    TABLE_IDTR(%r8)
        mov     $MSR_EFER, %ecx
        rdmsr
        mov     %eax, REGISTER_EFER(%r8)
        mov     %edx, REGISTER_EFER + 4(%r8)
        movq    $STAGE_REGISTERS, REPORT_STAGE(%r8)

        mov     $CONTROL, %r9d
        cmpq    $0, LOAD_RSI(%r9)
        je      1f
        mov     (%rsi), %rax
        mov     %rax, REPORT_MAGIC(%r8)
1:      movq    $STAGE_MAGIC, REPORT_STAGE(%r8)

        xor     %ecx, %ecx
probe:  cmp     PROBE_COUNT(%r9), %rcx
        jae     done
        mov     PROBES(%r9, %rcx, 8), %rax
        mov     (%rax), %rax
        mov     %rax, REPORT_VALUES(%r8, %rcx, 8)
        incq    REPORT_STAGE(%r8)
        inc     %rcx
        jmp     probe

/* Every register is poisoned before the last store: nothing of this job can look right in a later one. */
done:   mov     sequence(%rip), %rax
        movabs  $POISON, %rbx
        .irp    register, rcx, rdx, rsi, rdi, rbp, rsp, r9, r10, r11, r12, r13, r14, r15
        mov     %rbx, %\register
        .endr
        mov     %rax, REPORT_DONE(%r8)
        mov     %rbx, %rax
        mov     %rbx, %r8
halt:   cli
        hlt
        jmp     halt

        .balign 8
sequence:
        .quad   0
payload_end:
